"""Compares finished runs: the differences of their jobs, their metrics, and the examples where their models
disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from job.errors import JobError
from job.evaluation.intervals import METHODS, Interval, metric_intervals, paired_gain
from job.evaluation.run_documents import Documents

MOST = 1000
"""The most disagreements that are listed."""


@dataclass(frozen=True)
class Side:
    """One of the runs, and its exported model."""

    documents: Documents
    metrics: dict[str, float | None]
    """Metrics on the run's own test split."""
    intervals: dict[str, Interval | None]
    right: int
    """The number of right answers on the examples that all runs were tested on."""
    gains: dict[str, Interval | None]
    """Gains in accuracy and balanced accuracy over the first run, on those examples; empty for the first."""


@dataclass(frozen=True)
class Answer:
    label: str
    chance: float
    right: bool


@dataclass(frozen=True)
class Disagreement:
    key: str
    truth: str
    answers: list[Answer]
    """The answer of each run."""


@dataclass(frozen=True)
class MetricWithInterval:
    """A metric, and its interval where there is one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ComparedRun:
    run: str
    """The URI."""
    kept: str
    test_examples: int
    metrics: dict[str, MetricWithInterval]
    right_of_common: int
    gains: dict[str, Interval]


@dataclass(frozen=True)
class ComparisonDocument:
    """What `thaw compare --json` prints; the fields that `Compared` has are the same."""

    runs: list[ComparedRun]
    differences: dict[str, list[Any]]
    common: int
    disagree: int
    disagreements: list[Disagreement]


@dataclass(frozen=True)
class Compared:
    sides: list[Side]
    differences: dict[str, list[Any]]
    """The value of each run, by setting of the job file, and by `snapshot` and `base`."""
    common: int
    """The number of test examples that all runs have with the same label."""
    disagreements: list[Disagreement]
    """Examples with different answers, the most confident wrong answers first, MOST at most."""
    disagree: int


def compare_runs(runs: list[Documents]) -> Compared:
    """Compares runs with the first of them. Raises JobError where they have no test example in common."""
    keys, places = _in_common(runs)
    if not keys:
        where = ", ".join(run.uri for run in runs)
        raise JobError(f"{where}: these runs have no test example in common, so there is nothing to compare.")
    names = [np.array(run.snapshot.classes, object) for run in runs]
    chances = [run.predictions.chances[run.kept][place] for run, place in zip(runs, places, strict=True)]
    answers = [classes[chance.argmax(axis=1)] for classes, chance in zip(names, chances, strict=True)]
    labels = runs[0].predictions.labels[places[0]]
    truth = names[0][labels]
    rights = [answer == truth for answer in answers]
    sides = []
    for number, run in enumerate(runs):
        seed, classes = runs[0].job.train.seed, len(names[0])
        gains = {
            metric: paired_gain(labels, rights[number], rights[0], classes=classes, metric=metric, seed=seed)
            for metric in ("accuracy", "balanced_accuracy")
        }
        metrics = {name: getattr(run.metrics[run.kept], name) for name in METHODS}
        intervals = metric_intervals(run.predictions, run.kept, run.job.train.seed)
        sides.append(Side(run, metrics, intervals, int(rights[number].sum()), gains if number else {}))
    differ = np.flatnonzero(np.any([answer != answers[0] for answer in answers[1:]], axis=0))
    tops = [chance.max(axis=1) for chance in chances]
    wrong = np.max([np.where(right, 0, top) for right, top in zip(rights, tops, strict=True)], axis=0)
    order = differ[np.argsort(-wrong[differ], kind="stable")]
    disagreements = [
        Disagreement(
            keys[at],
            truth[at],
            [
                Answer(answer[at], float(top[at]), bool(right[at]))
                for answer, top, right in zip(answers, tops, rights, strict=True)
            ],
        )
        for at in order[:MOST].tolist()
    ]
    return Compared(sides, differences(runs), len(keys), disagreements, len(differ))


def differences(runs: list[Documents]) -> dict[str, list[Any]]:
    """The differences of runs: settings of the job files (with defaults, without URIs), snapshots, pretrained
    weights.
    """
    values_by_name = dict(
        _different([run.job.model_dump(mode="json", by_alias=True, exclude={"mlflow"}) for run in runs])
    )
    values_by_name = {name: values for name, values in values_by_name.items() if name not in ("store", "data.source")}
    values_by_name["snapshot"] = [run.snapshot.id for run in runs]
    values_by_name["base"] = [run.base.weights_sha256[:12] if run.base else None for run in runs]
    return {name: values for name, values in values_by_name.items() if any(value != values[0] for value in values)}


def comparison_document(compared: Compared) -> ComparisonDocument:
    return ComparisonDocument(
        runs=[_compared_run(side) for side in compared.sides],
        differences=compared.differences,
        common=compared.common,
        disagree=compared.disagree,
        disagreements=compared.disagreements,
    )


def _compared_run(side: Side) -> ComparedRun:
    documents = side.documents
    return ComparedRun(
        run=documents.uri,
        kept=documents.kept,
        test_examples=len(documents.predictions.keys),
        metrics={name: _measured(value, side.intervals[name]) for name, value in side.metrics.items()},
        right_of_common=side.right,
        gains={name: gain for name, gain in side.gains.items() if gain},
    )


def _measured(value: float | None, interval: Interval | None) -> MetricWithInterval:
    return MetricWithInterval(value, interval.low, interval.high) if interval else MetricWithInterval(value)


def _in_common(runs: list[Documents]) -> tuple[list[str], list[np.ndarray]]:
    """The keys of the test examples that all runs have with the same label, and their places in each run."""
    tested = []
    for run in runs:
        labels = [run.snapshot.classes[label] for label in run.predictions.labels]
        tested.append(dict(zip(zip(run.predictions.keys, labels, strict=True), range(len(labels)), strict=True)))
    shared = [example for example in tested[0] if all(example in others for others in tested[1:])]
    return [key for key, _ in shared], [np.array([places[example] for example in shared], int) for places in tested]


def _different(values: list[Any], name: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The differing values by dotted name. Sections that all values have are compared by key; lists, and sections that
    one lacks, are compared as a whole.
    """
    if all(isinstance(value, dict) for value in values):
        for key in dict.fromkeys(key for value in values for key in value):
            yield from _different([value.get(key) for value in values], f"{name}.{key}" if name else key)
    elif any(value != values[0] for value in values):
        yield name, values
