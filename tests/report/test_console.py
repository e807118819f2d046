"""Tables for a terminal, whatever the classes are called and however many they are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from job.report.console import prediction_table, result_table


def drawn(table: Table, width: int = 80) -> str:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def measured(confusion: Any) -> dict[str, Any]:
    return {"accuracy": 0.853785, "balanced_accuracy": 0.814687, "roc_auc": None, "confusion": confusion}


def result(classes: list[str], confusion: Any, tuned: Any = None) -> dict[str, Any]:
    return {
        "classes": classes,
        "metrics": {"head": measured(confusion), "fine_tune": tuned and measured(tuned)},
    }


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
