"""The page of finished runs, also of those with hostile names and of large ones, without a browser."""

from __future__ import annotations

import io
import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from job.cli import thaw
from job.data.forms import image_form
from job.errors import JobError
from job.evaluation.run_documents import read_documents
from job.report.examples import opened
from job.report.finished import page_of, write_report
from job.report.page.charts import Curve, accuracy_chart, bar_chart, loss_chart
from job.report.page.effort import effort_of
from job.report.page.gather import browsable
from job.report.page.render import SECTIONS
from job.storage import open_store
from support import finished
from support.drawn import Drawn
from support.finished import Made

LARGEST = 5 * 2**20
"""Bytes that a mail server lets through."""


class Reader(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_made(made: Made) -> Reader:
    store, run = made.finish()
    return Reader(page_of(read_documents(store, run), {"thaw": "1.2.3"}))


def check_sections(page: Reader) -> None:
    ids = [attributes.get("id") for tag, attributes in page.tags if tag == "section"]
    assert ids == list(SECTIONS)


def test_every_section_is_there_and_names_do_nothing(tmp_path: Path) -> None:
    page = page_made(Made(tmp_path))
    check_sections(page)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "b>", "iframe", "object", "embed", "form", "i>"}
    assert {tag for tag, attributes in page.tags if any(name.startswith("on") for name in attributes)} == set()
    assert '<script>alert("x")</script>' in page.text
    assert '"><img src=x onerror=alert(1)>' in page.text
    assert "<b>top</b>" in page.text
    loaded = [attributes.get("src") or "" for tag, attributes in page.tags if tag == "img"]
    assert loaded
    assert all(source.startswith("data:image/webp;base64,") for source in loaded)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    charts = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("class") != "plot"]
    assert len(charts) == 6
    assert all(attributes.get("aria-label") for attributes in charts)
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page.text.lower())


def test_charts_have_what_was_measured(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    documents = read_documents(store, run)
    arrived = replace(documents.snapshot, arrivals={"2026-01-01": 3, "2026-01-03": 1})
    page = page_of(replace(documents, snapshot=arrived))
    svgs = [Drawn(svg) for svg in re.findall(r'<svg class="chart.*?</svg>(?=<fig|</fig|\n)', page)]
    quality, loss, accuracy, reliability, arrivals, strip = svgs
    for told in ("head only: 82.5 %", "fine-tuned: 95.0 %"):
        assert told in quality.text
    assert len(quality.all("whisker s1")) == len(quality.all("whisker s2")) == 2 + 1, "two metrics, and the legend"
    head, tuned = ([(n, 1 / n) for n in range(1, 5)], [(4 + n, 1 / n) for n in range(1, 4)])
    for drawn, points in zip(loss.curve("s1"), (head, tuned), strict=True):
        assert drawn == [pytest.approx(point, abs=0.01) for point in points]
    assert [len(part) for part in loss.curve("s2")] == [3, 3], "without the one that is no number"
    assert accuracy.curve("s2")[0] == [pytest.approx((n, 100 - 50 / n), abs=0.2) for n in range(1, 5)]
    assert len(reliability.all("dot s2")) == page.count(" %</th>")
    assert [bar.get("height") for bar in arrivals.all("column")] == ["185.0", "0.0", "61.7"]
    assert "2026-01-03: 1" in arrivals.text
    assert [block.get("class") for block in strip.all("block")] == ["block once", "block trained", "block trained"]
    assert "stem: 100 parameters, computed once, then read" in strip.text
    assert len(strip.all("cut")) == 1


def test_losses_of_many_powers_of_ten_are_on_a_logarithmic_axis() -> None:
    far = loss_chart("told", [Curve("s2", "validation loss", [(1, 1e6), (2, 1e-2)])], [])
    assert far is not None
    assert "10⁶" in far
    zero = loss_chart("told", [Curve("s2", "validation loss", [(1, 1e6), (2, 0.0)])], [])
    assert zero is not None
    assert "800,000" in zero
    assert loss_chart("told", [], []) is None
    assert accuracy_chart("told", [], []) is None


def test_of_many_bars_some_have_their_names() -> None:
    bars = [(f"2026-01-{day:02d}", day) for day in range(1, 32)]
    drawn = Drawn(bar_chart("told", bars))
    names = [one.text for one in drawn.all("tick", "text") if str(one.text).startswith("2026")]
    assert 3 <= len(names) <= 6
    assert len(drawn.all("column")) == 31


def test_it_says_what_was_measured(tmp_path: Path) -> None:
    text = " ".join(page_made(Made(tmp_path, settings="scaling: {workers: 2, worker_price: 1.5}")).text.split())
    assert "The fine-tuned model is right on 95.0 % of 40 test examples (95 % interval: 83.5 to 98.6 %)" in text
    assert "it was put into use" in text
    assert "its workers cost 3.04, at scaling.worker_price an hour" in text, "90 s of one worker, an hour of two"
    assert "62 min in 2 attempts" in text
    assert "3 epochs of fine-tuning read 309 stored outputs instead of computing what lies below x" in text
    assert "Not shown: not an image" in text
    assert "1.2.3" in text


def test_a_stage_that_took_no_time_and_counted_nothing_has_no_row(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    stages = json.loads(store.read(f"runs/{run}/timings.json"))
    begun = {"attempt": 2, "stage": "report", "seconds": 0.0, "workers": None, "computed": None, "stored": None}
    all_stored = {**begun, "attempt": 1, "stage": "words", "computed": 0, "stored": 100}
    stages = [*stages, all_stored, begun]
    store.write(f"runs/{run}/timings.json", json.dumps(stages).encode())
    effort = effort_of(read_documents(store, run))
    assert [row.name for row in effort.stages] == ["features: decode, frozen layers", "head", "words of the texts"]
    assert effort.attempts == 2
    store.write(f"runs/{run}/timings.json", json.dumps([*stages, {**begun, "attempt": 1, "seconds": 9.0}]).encode())
    row = effort_of(read_documents(store, run)).stages[-1]
    assert (row.name, row.seconds, row.attempts) == ("reports of attempts before", 9.0, 1)


def test_a_run_that_was_not_fine_tuned_and_not_judged(tmp_path: Path) -> None:
    made = Made(tmp_path, fine_tuned=False, settings="phases: {fine_tune: null}\npromote: null")
    store, run = made.finish()
    store.delete(f"runs/{run}/promotion.json")
    store.delete(f"runs/{run}/timings.json")
    page = Reader(page_of(read_documents(store, run)))
    check_sections(page)
    assert "The head-only model is right on" in page.text
    assert "gain, points" not in page.text
    assert "The time of each stage was not written down" in page.text


def test_texts_show_their_first_words(tmp_path: Path) -> None:
    page = page_made(Made(tmp_path, task="text"))
    check_sections(page)
    assert "<b>text</b> number" in page.text
    assert "img" not in {tag for tag, _ in page.tags}


def test_of_a_text_the_words_that_its_answer_rests_on_are_marked(tmp_path: Path) -> None:
    store, run = Made(tmp_path, task="text").finish()
    finished.export_of_texts(store, run, classes=3, word="defect")
    page = page_of(read_documents(store, run))
    assert len(re.findall(r'<mark style="--v:45%">defect</mark>', page)) == 2, "of both mistakes"
    assert "It rests most on “defect”: without it, the probability of the answer falls" in page


def test_a_run_of_an_earlier_version_has_its_page(tmp_path: Path) -> None:
    store, run = Made(tmp_path, training={"blocks": [], "thawed": []}).finish()
    for name in ("timings", "plan", "promotion"):
        store.delete(f"runs/{run}/{name}.json")
    store.delete(f"runs/{run}/rejects.jsonl")
    page = Reader(page_of(read_documents(store, run)))
    check_sections(page)
    assert "Which layers trained was not written down" in page.text


@pytest.mark.slow
def test_a_thousand_classes_and_ten_thousand_test_examples_fit_into_a_mail(tmp_path: Path) -> None:
    classes = tuple(f"class {number:04d} of these" for number in range(1000))
    store, run = Made(tmp_path, classes=classes, tested=10_000, task="text").finish()
    started = time.process_time()
    page = page_of(read_documents(store, run))
    assert time.process_time() - started < 60
    assert len(page.encode()) < LARGEST
    check_sections(Reader(page))
    assert "the pairs that are confused most" in page


@pytest.mark.slow
def test_of_ten_thousand_pictures_some_are_shown_and_they_fit_into_a_mail(tmp_path: Path) -> None:
    store, run = Made(tmp_path, tested=10_000).finish()
    finished.export(store, run, classes=3)
    page = page_of(read_documents(store, run))
    assert len(page.encode()) < LARGEST
    shown = page.count('<img src="data:image/webp;base64,')
    assert 12 <= shown <= 12 + 12 + 6, "mistakes, right answers, and mistakes with what the network looked at"
    check_sections(Reader(page))


def test_what_thaws_block_by_block_is_marked(tmp_path: Path) -> None:
    record = {"validation_loss": 0.5, "validation_accuracy": 0.8}
    step = {**record, "loss": 0.5, "learning_rate": 1e-4, "seconds": 1.0, "examples": 10}
    decided = [
        {"block": name, "before": 0.5, "after": 0.4, "share": 0.99, "blocks": 1, "pays": True} for name in ("b5", "b4")
    ]
    tuned = [{"epoch": 0, **record}, {"epoch": 1, **step}, {"epoch": 0, **record}, {"epoch": 1, **step}]
    history = {"head": [{"epoch": 1, **step}], "fine_tune": tuned}
    page = page_made(Made(tmp_path, training={"history": history, "thawed": decided}))
    assert "b5 thaws" in page.text
    assert "b4 thaws" in page.text
    assert "Marked, from left to right: 1 b5 thaws, 2 b4 thaws." in page.text


def test_the_verb_writes_the_page_the_card_and_the_record(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    finished.export(store, run, classes=3)
    done = CliRunner().invoke(thaw, ["report", f"{store.uri}runs/{run}/"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{store.uri}runs/{run}/report/index.html\n"
    assert store.stat(f"runs/{run}/report/card.md")
    assert store.stat(f"runs/{run}/record.json")
    page = store.read(f"runs/{run}/report/index.html").decode()
    assert "A square of the mean colour hides each place in turn" in page
    local = tmp_path / "page.html"
    before = [info.version for info in store.list()]
    done = CliRunner().invoke(thaw, ["report", str(tmp_path / f"store/runs/{run}"), "--out", str(local)])
    assert done.stdout == f"{local}\n"
    assert local.read_text() == page
    assert [info.version for info in store.list()] == before


def test_a_run_without_a_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with pytest.raises(JobError, match="this run has no result, so there is nothing to report"):
        read_documents(open_store(f"file://{tmp_path}/store/"), "nobody")


def test_the_versions_of_a_run_stay_those_that_it_was_finished_with(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    write_report(read_documents(store, run), print, {"thaw": "0.0.9"})
    write_report(read_documents(store, run), print)
    assert "0.0.9" in store.read(f"runs/{run}/report/index.html").decode()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16", "CMYK"])
def test_pictures_of_every_kind_become_thumbnails(mode: str) -> None:
    buffer = io.BytesIO()
    image = Image.new(mode, (300, 100), 40_000 if mode == "I;16" else None)
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    small = opened(buffer.getvalue(), image_form(32, "stretch", 10**6), task="image", side=160).picture
    assert small is not None
    assert small.size == (160, 53)
    if mode == "I;16":
        assert abs(small.convert("L").getpixel((5, 5)) - 40_000 // 256) < 4  # type: ignore[operator]


def test_links_lead_to_consoles_and_to_no_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert browsable("gs://b/a b/") == "https://console.cloud.google.com/storage/browser/b/a%20b/"
    assert browsable('s3://b/"x/') == "https://s3.console.aws.amazon.com/s3/buckets/b?prefix=%22x%2F"
    assert browsable("javascript:alert(1)") is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    assert browsable("s3://b/x/") is None


def test_what_was_saved_goes_by_the_lower_of_two_speeds(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    features = {"attempt": 1, "stage": "features", "seconds": 0.4, "workers": 1, "computed": 100, "stored": 0}
    store.write(f"runs/{run}/timings.json", json.dumps([features]).encode())
    text = Reader(page_of(read_documents(store, run))).text
    assert "4 epochs of head read 412 stored outputs" in text
    assert "about 1.6 s saved" in text, "412 times 4 ms, not 10 ms as the plan has it"
    assert "at the speed at which this run computed its features" in text
