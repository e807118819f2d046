"""Tables for a terminal, whatever the classes are called and however many they are."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from job.evaluation.compare import ComparedRun, ComparisonDocument, MetricWithInterval
from job.evaluation.intervals import Interval
from job.run.outcome import Metrics, RunResult
from job.telemetry.console import (
    Accuracies,
    compared_runs,
    compared_table,
    comparison_table,
    differences_table,
    prediction_table,
    result_table,
)
from support.results import metrics, run_result


def drawn(table: Table, width: int = 80) -> str:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def measured(confusion: list[list[int]]) -> Metrics:
    return replace(metrics(0.853785, confusion), balanced_accuracy=0.814687)


def result(classes: list[str], confusion: list[list[int]], tuned: list[list[int]] | None = None) -> RunResult:
    tested = {"head": measured(confusion), "fine_tune": measured(tuned) if tuned else None}
    return run_result("s3://b/runs/x/", classes=classes, metrics=tested)


def test_two_classes_have_their_whole_matrix() -> None:
    table = result_table(result(["defective", "functional"], [[83, 33], [23, 244]], [[82, 34], [11, 256]]))
    assert (
        drawn(table)
        == """\
Test split
                               head only   fine-tuned
 accuracy                         0.8538       0.8538
 balanced accuracy                0.8147       0.8147
 ROC AUC                               –            –
 confusion: true defective      83    33     82    34
 confusion: true functional     23   244     11   256
Confusion: columns are predicted defective,
functional.
"""
    )


def test_of_a_thousand_classes_the_pairs_that_are_confused_most() -> None:
    classes = [f"class number {number} of them all" for number in range(1000)]
    confusion = np.diag(np.full(1000, 50))
    confusion[3, 999], confusion[998, 2] = 7, 12
    lines = drawn(result_table(result(classes, confusion.tolist(), confusion.tolist()))).splitlines()
    assert max(map(len, lines)) <= 80
    assert [" ".join(line.split()) for line in lines[5:7]] == [
        "class number 998 of… taken for class number 2 of t… 12 12",
        "class number 3 of t… taken for class number 999 of… 7 7",
    ]
    assert len(lines) <= 10


def test_names_are_shown_as_they_are() -> None:
    names = ["[/old]", "a\nb", "\x1b[31mred"]
    table = drawn(result_table(result(names, np.eye(3, dtype=int).tolist())))
    for name in ("true [/old]", r"true a\nb", r"true \x1b[31mred"):
        assert name in table
    record = {"file": "[/x]\n.png", "class": "[/old]", "probabilities": {"[/old]": 0.75, "b": 0.25}}
    assert r"[/x]\n.png" in drawn(prediction_table([record, {"file": "[/y]", "error": "[/z] is broken"}]))


def compared() -> ComparisonDocument:
    def side(run: str, kept: str, accuracy: float, *, right: int, gains: dict[str, Interval]) -> ComparedRun:
        near = MetricWithInterval(accuracy, accuracy - 0.04, accuracy + 0.03)
        metrics = {
            "accuracy": near,
            "balanced_accuracy": MetricWithInterval(accuracy),
            "roc_auc": MetricWithInterval(None),
        }
        return ComparedRun(run, kept, 1383, metrics, right, gains)

    gain = {"accuracy": Interval(0.0287, -0.0101, 0.0499)}
    second = "gs://another-bucket/a long folder/[thaw]/runs/cells-ba9876543210/"
    return ComparisonDocument(
        runs=[
            side("s3://bucket/thaw/runs/cells-0123456789ab/", "head", 0.8538, right=1181, gains={}),
            side(second, "fine_tune", 0.8825, right=1220, gains=gain),
        ],
        differences={
            "phases.fine_tune": [None, {"unfreeze": {"blocks": 2}, "epochs": 10}],
            "train.seed": [0, 7],
            "data.classes": ["[/x]", ["a", "b"]],
        },
        common=1383,
        disagree=0,
        disagreements=[],
    )


def test_runs_beside_each_other() -> None:
    assert (
        compared_runs(compared())
        == """\
 A  head only   s3://bucket/thaw/runs/cells-0123456789ab/
 B  fine-tuned  gs://another-bucket/a long folder/[thaw]/runs/cells-ba9876543210/"""
    )
    assert (
        drawn(compared_table(compared()))
        == """\
                            balanced                               gain over A,
           accuracy         accuracy  ROC AUC  right of 1,383            points
 A    0.8538 (0.814           0.8538        –           1,181
          to 0.884)
 B    0.8825 (0.842           0.8825        –           1,220     +2.9 (-1.0 to
          to 0.912)                                                       +5.0)
"""
    )


def test_what_differs_in_their_jobs() -> None:
    assert (
        drawn(differences_table(compared()))
        == """\
 setting           A     B
 phases.fine_tune  –     {'unfreeze': {'blocks': 2}, 'epochs': 10}
 train.seed        0     7
 data.classes      [/x]  ['a', 'b']
"""
    )


def test_accuracies_beside_those_of_others() -> None:
    row = Accuracies(training=100, majority=0.5, head=0.78321, fine_tune=0.8012, tfidf=0.7)
    assert (
        drawn(comparison_table([row, row._replace(training=25_000)]))
        == """\
Accuracy on the test split
 training texts  majority class  head only  fine-tuned  TF-IDF + LR
 100                     0.5000     0.7832      0.8012       0.7000
 25000                   0.5000     0.7832      0.8012       0.7000
"""
    )
