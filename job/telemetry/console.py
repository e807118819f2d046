"""Tables for a terminal."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Column, Table

from job.data.splits import SPLITS
from job.evaluation.compare import ComparisonDocument, MetricWithInterval
from job.evaluation.metrics import wrong_answers
from job.report.curves import DepthSummary
from job.run.outcome import RunResult
from job.telemetry.printable import plain
from job.wording import METRICS, NAMES

MOST_CLASSES = 20
"""The most classes whose examples are told one by one; of more, those of the largest and of the smallest."""
WHOLE = 3
"""Classes at most whose confusion matrix is shown as a whole."""
PAIRS = 5
"""Where there are more classes: this many pairs that are confused most."""
LABEL = 20
"""Columns of a class's name, at most."""


def result_table(result: RunResult, published: tuple[str, float] | None = None) -> Table:
    """Head only against fine-tuned on the test split, and what is confused; `published` is a name and an accuracy to
    put beside them.
    """
    models, classes = result.tested, result.classes
    table = Table(title="Test split", title_justify="left", box=None)
    table.add_column("")
    for name in models:
        table.add_column(NAMES[name], justify="right")
    if published:
        table.add_column(published[0], justify="right")
    for key, label in METRICS.items():
        cells = ["–" if (value := getattr(m, key)) is None else f"{value:.4f}" for m in models.values()]
        beside = [f"{published[1]:.4f}" if key == "accuracy" else ""] if published else []
        table.add_row(label, *cells, *beside)
    beside = [""] if published else []
    if len(classes) <= WHOLE:
        for row, label in enumerate(classes):
            cells = [" ".join(f"{count:>5}" for count in m.confusion[row]) for m in models.values()]
            table.add_row(f"confusion: true {_name(label)}", *cells, *beside)
        table.caption = f"Confusion: columns are predicted {', '.join(map(_name, classes))}."
    else:
        confusions = [m.confusion for m in models.values()]
        for true, answer in _confused(confusions[-1]):
            pair = f"{_name(classes[true])} taken for {_name(classes[answer])}"
            table.add_row(pair, *(str(confusion[true][answer]) for confusion in confusions), *beside)
        table.caption = f"Below the metrics: what the {NAMES[list(models)[-1]]} model confuses most."
    table.caption_justify = "left"
    return table


def _confused(confusion: list[list[int]]) -> list[tuple[int, int]]:
    """The pairs of class and answer that are confused most, of those that are confused at all."""
    return sorted(wrong_answers(confusion), key=lambda pair: -confusion[pair[0]][pair[1]])[:PAIRS]


def _name(label: str) -> str:
    return escape(plain(label, LABEL))


def classes_table(counts: dict[str, dict[str, int]]) -> Table:
    """How many examples of each class are in each split: `counts` by split and class."""
    table = Table("class", *(Column(split, justify="right") for split in SPLITS), box=None, pad_edge=True)
    totals = {label: sum(counts[split][label] for split in SPLITS) for label in counts["train"]}
    rows = [(_name(label), [label]) for label in totals]
    if len(rows) > MOST_CLASSES:
        rows.sort(key=lambda row: -totals[row[1][0]])
        half = MOST_CLASSES // 2
        others = [label for _, (label,) in rows[half:-half]]
        rows = [*rows[:half], (f"… {len(others):,} more", others), *rows[-half:]]
    for name, labels in rows:
        table.add_row(name, *(str(sum(counts[split][label] for label in labels)) for split in SPLITS))
    return table


def compared_runs(comparison: ComparisonDocument) -> str:
    """What the letters of the tables stand for, a line a run: the model that was kept, and the whole URI."""
    lettered = zip(ascii_uppercase, comparison.runs, strict=False)
    return "\n".join(f" {letter}  {NAMES[run.kept]:<10}  {plain(run.run)}" for letter, run in lettered)


def compared_table(comparison: ComparisonDocument) -> Table:
    """Runs beside each other: metrics with 95 % intervals, gains over the first."""
    table = Table("", box=None)
    for name in ("accuracy", "balanced accuracy", "ROC AUC", f"right of {comparison.common:,}", "gain over A, points"):
        table.add_column(name, justify="right")
    for letter, run in zip(ascii_uppercase, comparison.runs, strict=False):
        cells = [_measured(run.metrics[name]) for name in ("accuracy", "balanced_accuracy", "roc_auc")]
        gain = run.gains.get("accuracy")
        gained = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if gain else ""
        table.add_row(letter, *cells, f"{run.right_of_common:,}", gained)
    return table


def differences_table(comparison: ComparisonDocument) -> Table:
    """What differs in the jobs of the same runs."""
    table = Table("setting", *ascii_uppercase[: len(comparison.runs)], box=None)
    for name, values in comparison.differences.items():
        table.add_row(escape(name), *("–" if value is None else escape(str(value)) for value in values))
    return table


def _measured(measured: MetricWithInterval) -> str:
    if measured.value is None:
        return "–"
    span = "" if measured.low is None else f" ({measured.low:.3f} to {measured.high:.3f})"
    return f"{measured.value:.4f}{span}"


def sweep_table(depths: list[DepthSummary]) -> Table:
    """What each depth of thawing came to on the test split: means over seeds, ± their standard deviation."""
    columns = {"accuracy": 4, "balanced_accuracy": 4, "roc_auc": 4, "validation_loss": 4, "seconds": 0}
    names = [METRICS.get(name, name.replace("_", " ")) for name in columns]
    table = Table("blocks thawed", "runs", "parameters trained", *names, box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for depth in depths:
        cells = [_spread_of(depth, name, digits) for name, digits in columns.items()]
        table.add_row(str(depth.blocks or "head only"), str(depth.runs), f"{depth.parameters:,}", *cells)
    table.caption = "Seconds are those of the training epochs."
    table.caption_justify = "left"
    return table


def _spread_of(depth: DepthSummary, name: str, digits: int) -> str:
    return spread(getattr(depth, name), getattr(depth, f"{name}_deviation"), digits)


def spread(mean: float | None, deviation: float | None, digits: int) -> str:
    """A mean ± its standard deviation; None where there is none."""
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


class Accuracies(NamedTuple):
    """Accuracies on the test split, of models on one training set."""

    training: int
    """Examples of that set."""
    majority: float
    """Always answering the most frequent class."""
    head: float
    fine_tune: float
    tfidf: float
    """TF-IDF with logistic regression."""


def comparison_table(rows: list[Accuracies]) -> Table:
    """Accuracies of a job on several training sets beside others' on the same splits."""
    columns = {"majority": "majority class", **NAMES, "tfidf": "TF-IDF + LR"}
    table = Table("training texts", title="Accuracy on the test split", title_justify="left", box=None)
    for name in columns.values():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(str(row.training), *(f"{getattr(row, name):.4f}" for name in columns))
    return table


def prediction_table(records: list[dict[str, Any]]) -> Table:
    table = Table(Column("file", overflow="fold"), "class", "probabilities", box=None)
    for record in records:
        file = escape(plain(record["file"]))
        if "error" in record:
            table.add_row(file, "–", escape(plain(record["error"])), style="yellow")
        else:
            best = sorted(record["probabilities"].items(), key=lambda item: -item[1])[:5]
            chances = "  ".join(f"{_name(name)} {p:.4f}" for name, p in best)
            table.add_row(file, _name(record["class"]), chances)
    return table
