"""Confusion matrices and mistakes as TensorBoard reads them back."""

from __future__ import annotations

import html
import io
import json
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job.evaluation.run_documents import Documents, read_documents
from job.report.answers_drawn import draw_answers
from job.report.drawings import captioned, confusion_picture, most_confused
from job.report.examples import chosen_examples
from job.report.finished import write_report
from job.run.events import AttemptEnded, Bus
from job.telemetry.board import mirror
from job.telemetry.event_files import EventFiles
from support import finished
from support.browser import browser
from support.events import attempt_started
from support.finished import Made
from support.servers import answering, free_port


def draw(made: Made) -> tuple[Documents, list[str]]:
    """What was drawn for, and what was warned of."""
    told: list[str] = []
    documents = read_documents(*made.finish())
    draw_answers(documents, chosen_examples(documents), told.append)
    return documents, told


def read_back(documents: Documents, folder: Path) -> dict[str, list[tuple[int, list[bytes], str]]]:
    """By tag: step, values and description."""
    mirror(documents.store, "runs/", folder)
    found = EventAccumulator(str(folder / documents.run), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [
            (one.step, list(one.tensor_proto.string_val), found.SummaryMetadata(tag).summary_description)
            for one in found.Tensors(tag)
        ]
        for tag in found.Tags()["tensors"]
    }


def picture(values: list[bytes]) -> Image.Image:
    """After a check of what TensorBoard is told of its size."""
    image = Image.open(io.BytesIO(values[2]))
    image.load()
    assert (image.format, image.size) == ("PNG", (int(values[0]), int(values[1])))
    return image


def test_each_model_has_its_matrix_at_its_last_step_and_mistakes_are_those_of_the_page(tmp_path: Path) -> None:
    documents, _ = draw(Made(tmp_path))
    drawn = read_back(documents, tmp_path)
    steps = {tag: step for tag, ((step, _, _),) in drawn.items()}
    assert (steps["confusion/head"], steps["confusion/fine_tune"]) == (8, 14), "4 epochs of 2 steps, then 3"
    examples = chosen_examples(documents)
    readable = [at for at in examples.mistakes if isinstance(examples.originals[documents.predictions.keys[at]], bytes)]
    mistakes = sorted(tag for tag in drawn if tag.startswith("mistakes/"))
    assert 0 < len(mistakes) <= len(readable)
    assert {steps[tag] for tag in mistakes} == {14}
    for tag in mistakes:
        ((_, values, description),) = drawn[tag]
        assert picture(values).width == 224
        told = html.unescape(re.sub("<[^>]*>", "", description))
        assert any(" ".join(documents.predictions.keys[at].split()) in told for at in readable)


def test_names_mean_nothing_in_a_description_nor_in_a_picture(tmp_path: Path) -> None:
    classes = ('<script>alert("x")</script>', r"$\frac{a}$ **b** [c](javascript:alert(1))", "日本 😀\n| x")
    documents, _ = draw(Made(tmp_path, classes=classes))
    for tag, ((_, values, description),) in read_back(documents, tmp_path).items():
        picture(values)
        assert not set("<>[]`|_") & set(description.replace("**", "")), tag
        assert "\n" not in description


def test_a_run_that_is_taken_up_again_draws_nothing_twice(tmp_path: Path) -> None:
    documents, _ = draw(Made(tmp_path))
    before = read_back(documents, tmp_path)
    bus = Bus()
    EventFiles(bus)
    bus.emit(attempt_started(documents.store, documents.run, number=2))
    bus.emit(AttemptEnded())
    write_report(documents, print)
    assert read_back(documents, tmp_path) == before


def test_what_cannot_be_read_is_left_out_and_told_once(tmp_path: Path) -> None:
    made = Made(tmp_path)
    store, run = made.finish()
    documents, told = read_documents(store, run), list[str]()
    keys = [documents.predictions.keys[at] for at in chosen_examples(documents).mistakes]
    for path in (tmp_path / "source").iterdir():
        if path.suffix == ".png":
            path.unlink()
    uri = write_report(documents, told.append)
    assert uri == f"{store.uri}runs/{run}/report/index.html"
    (warning,) = told
    assert warning.startswith(
        f"{len(keys)} of the {len(keys)} mistakes to be drawn for TensorBoard can't be read from "
    )
    assert set(read_back(documents, tmp_path)) == {"confusion/head", "confusion/fine_tune"}


def test_texts_are_a_table(tmp_path: Path) -> None:
    documents, told = draw(Made(tmp_path, task="text"))
    drawn = read_back(documents, tmp_path)
    assert set(drawn) == {"confusion/head", "confusion/fine_tune", "mistakes"}
    assert told == []
    ((_, (table,), _),) = drawn["mistakes"]
    rows = table.decode().splitlines()
    mistakes = chosen_examples(documents).mistakes
    assert [row.count("|") for row in rows] == [7] * (2 + len(mistakes))
    first = html.unescape(rows[2])
    assert "<b>text</b> number" in first
    assert "<b>" not in table.decode()


def test_a_run_without_fine_tuning_and_one_without_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, _ = draw(Made(tmp_path / "head", fine_tuned=False))
    assert "confusion/fine_tune" not in read_back(documents, tmp_path / "head")
    monkeypatch.setattr(finished, "_logits", lambda labels, classes, seed: np.eye(classes, dtype=np.float32)[labels])
    documents, told = draw(Made(tmp_path / "right", task="text"))
    assert set(read_back(documents, tmp_path / "right")) == {"confusion/head", "confusion/fine_tune"}
    assert told == []


def test_a_failure_of_the_drawing_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no font")

    monkeypatch.setattr("job.report.answers_drawn.confusion_picture", fail)
    store, run = Made(tmp_path).finish()
    told: list[str] = []
    assert write_report(read_documents(store, run), told.append)
    assert told == ["The answers could not be drawn for TensorBoard: RuntimeError: no font"]
    assert store.stat(f"runs/{run}/record.json")


def test_of_a_thousand_classes_those_that_are_confused_most(tmp_path: Path) -> None:
    counts = np.diag(np.full(1000, 30))
    for place in range(40):
        counts[place, 999 - place] = place
    chosen = most_confused(counts, 24)
    assert chosen == [*range(28, 40), *range(960, 972)]
    image = confusion_picture(counts.tolist(), [f"class {i}" for i in range(1000)], "fine-tuned, 30,780 test examples")
    assert max(image.size) < 2000
    assert most_confused(np.eye(3, dtype=int), 24) == [0, 1, 2]


def test_shades_are_shares_of_the_row() -> None:
    """Blue where it is right, brown where not, white where nothing is."""
    image = confusion_picture([[100, 0], [75, 25]], ["a", "b"], "")
    pixels = np.asarray(image).reshape(-1, 3).tolist()
    for colour in ((37, 99, 235), (199, 126, 70), (200, 216, 250)):
        assert sum(max(abs(np.subtract(pixel, colour))) <= 2 for pixel in pixels) > 1000, colour


def test_counts_and_names_are_written_and_names_that_begin_alike_differ() -> None:
    few, many = [[4, 0], [3, 1]], [[100, 0], [75, 25]]
    alike = [f"a name that is longer than there is room for, number {number}" for number in (1, 2)]
    assert confusion_picture(few, ["a", "b"], "").tobytes() != confusion_picture(many, ["a", "b"], "").tobytes()
    assert confusion_picture(few, alike, "").tobytes() != confusion_picture(few, alike[::-1], "").tobytes()
    assert confusion_picture(few, ["a", "b"], "one").tobytes() != confusion_picture(few, ["a", "b"], "two").tobytes()


def test_a_tiny_picture_is_enlarged_and_a_long_caption_cut() -> None:
    image = captioned(Image.new("RGB", (32, 20), "red"), ["x" * 500, "日本 😀", "a/b" * 1000])
    assert image.width == 224
    assert (np.asarray(image)[:140] == (255, 0, 0)).all()
    assert (np.asarray(image)[140:, -6:] == 255).all()


def test_tensorboard_shows_the_matrix_and_the_mistakes(tmp_path: Path) -> None:
    documents, _ = draw(Made(tmp_path))
    port = free_port()
    command = [sys.executable, "-m", "job", "tensorboard", documents.uri, "--port", str(port)]
    page = f"http://127.0.0.1:{port}/"
    with answering(command, page), browser() as opened:
        with urllib.request.urlopen(f"{page}data/plugin/images/tags", timeout=60) as answer:
            tags = json.load(answer)[documents.run]
        assert "shares of the row" in tags["confusion/head"]["description"]
        shown = opened.new_page()
        shown.goto(f"{page}#images")
        shown.locator(".tf-image-loader, tf-image-loader").first.wait_for(timeout=60_000)
        image = shown.locator("tf-image-loader img").first
        image.wait_for(timeout=60_000)
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 200
