"""Runs compared: figures by hand, hostile names, and a page that is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.errors import JobError
from job.evaluation.compare import compare_runs, differences
from job.evaluation.run_documents import Documents, read_documents
from job.report.page.comparison import comparison_page, verdict
from support.finished import Made


@pytest.fixture
def first(tmp_path: Path) -> Documents:
    return read_documents(*Made(tmp_path).finish())


def answering(run: Documents, chances: np.ndarray, **more: object) -> Documents:
    predictions = replace(run.predictions, chances={**run.predictions.chances, run.kept: chances})
    return replace(run, predictions=predictions, **more)  # type: ignore[arg-type]


def sure(run: Documents, wrong: int = 0) -> np.ndarray:
    """Right answers of probability 0.8, but for so many wrong ones of 0.9 at the begin."""
    labels, classes = run.predictions.labels, len(run.snapshot.classes)
    chances = np.full([len(labels), classes], 0.1)
    chances[np.arange(len(labels)), labels] = 0.8
    for at in range(wrong):
        chances[at] = 0.05
        chances[at, 1 - labels[at]] = 0.9
    return chances


def test_gains_and_disagreements_are_those_of_the_same_examples(first: Documents) -> None:
    good, worse = answering(first, sure(first)), answering(first, sure(first, wrong=8))
    compared = compare_runs([good, worse])
    assert [side.right for side in compared.sides] == [40, 32]
    gain = compared.sides[1].gains["accuracy"]
    assert gain is not None
    assert gain.value == pytest.approx(-0.2)
    assert gain.high < 0
    assert compared.sides[0].gains == {}
    assert (compared.common, compared.disagree) == (40, 8)
    assert {one.key for one in compared.disagreements} == set(first.predictions.keys[:8])
    (a, b) = compared.disagreements[0].answers
    assert (a.right, b.right, b.chance) == (True, False, 0.9)
    assert verdict(compared).startswith("B is worse than A: −20.0 points of accuracy (")
    assert verdict(compare_runs([good, good])).startswith("B can't be told from A: +0.0 points")


def test_only_examples_that_all_have_with_one_label_are_compared(first: Documents) -> None:
    chances = sure(first)
    predictions = replace(first.predictions, chances={first.kept: chances})
    kept = {first.kept: chances[5:]}
    fewer = replace(predictions, keys=predictions.keys[5:], labels=predictions.labels[5:], chances=kept)
    labels = fewer.labels.copy()
    labels[0] = 1 - labels[0]  # somebody has labelled it anew
    others = replace(first, predictions=replace(fewer, labels=labels))
    assert compare_runs([replace(first, predictions=predictions), others]).common == 34


def test_classes_are_the_same_by_name_and_not_by_place(first: Documents) -> None:
    classes = first.snapshot.classes
    order = list(reversed(range(len(classes))))
    turned = replace(first.snapshot, classes=[classes[at] for at in order])
    labels = len(classes) - 1 - first.predictions.labels
    chances = {name: found[:, order] for name, found in first.predictions.chances.items()}
    other = replace(first, snapshot=turned, predictions=replace(first.predictions, labels=labels, chances=chances))
    compared = compare_runs([first, other])
    assert compared.disagree <= 1  # the one whose logits are no numbers: equal chances, of which the first counts
    assert compared.sides[0].right == compared.sides[1].right


def test_what_differs_in_the_jobs_is_named_by_setting(first: Documents) -> None:
    job = first.job
    deeper = job.model_copy(update={"train": job.train.model_copy(update={"seed": 7})})
    alone = job.model_copy(update={"phases": job.phases.model_copy(update={"fine_tune": None})})
    snapshot = replace(first.snapshot, id="another")
    found = differences([first, replace(first, job=deeper), replace(first, job=alone, snapshot=snapshot)])
    assert list(found) == ["phases.fine_tune", "train.seed", "snapshot"]
    assert found["train.seed"] == [0, 7, 0]
    assert found["phases.fine_tune"][2] is None
    assert found["snapshot"] == [first.snapshot.id, first.snapshot.id, "another"]


def test_runs_without_a_common_example_are_refused(first: Documents) -> None:
    others = replace(first.predictions, keys=[f"other-{key}" for key in first.predictions.keys])
    with pytest.raises(JobError, match="have no test example in common"):
        compare_runs([first, replace(first, predictions=others)])


def test_the_page_shows_what_they_disagree_on_and_names_do_nothing(first: Documents) -> None:
    page = comparison_page(compare_runs([answering(first, sure(first)), answering(first, sure(first, wrong=30))]))
    assert "<script>alert" not in page
    assert "<i>&#39;" not in page.replace("&lt;i&gt;", "")
    assert page.count('<img src="data:image/webp;base64,') >= 4
    assert page.count("Not shown: not an image") >= 1
    assert 'src="http' not in page
    for section in ("runs", "differences", "disagreements"):
        assert f'<section id="{section}"' in page
    same = comparison_page(compare_runs([first, first]))
    assert "Nothing: the same settings" in same
    assert "Nowhere: they answer the same to all 40 test examples." in same


def test_the_verb_has_a_table_a_document_and_a_page(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        store, run = Made(tmp_path / name).finish()
        runs.append(f"{store.uri}runs/{run}/")
    page = tmp_path / "page.html"
    done = CliRunner().invoke(thaw, ["compare", *runs, "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "They disagree on 0 of 40 test examples" in done.stdout
    assert page.read_text().startswith("<!DOCTYPE html>")
    done = CliRunner().invoke(thaw, ["compare", *runs, "--json"])
    document = json.loads(done.stdout)
    assert [one["run"] for one in document["runs"]] == runs
    assert document["runs"][0]["metrics"]["accuracy"]["low"] < document["runs"][0]["metrics"]["accuracy"]["value"]
    assert document["common"] == 40
    assert CliRunner().invoke(thaw, ["compare", runs[0]]).exit_code == 2
