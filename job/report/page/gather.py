"""Everything that the page says, ready to be laid out."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from urllib.parse import quote

import yaml
from markupsafe import Markup

from job.data.splits import SPLITS
from job.evaluation.groups import groups_of
from job.evaluation.intervals import (
    METHODS,
    Bin,
    ClassRow,
    GroupRow,
    Interval,
    calibration,
    class_rows,
    gain,
    metric_intervals,
)
from job.evaluation.metrics import wrong_answers
from job.evaluation.run_documents import MOST_REJECTS, Documents
from job.evaluation.verdict import majority, verdict
from job.report.examples import ShownExamples
from job.report.page.charts import bar_chart, calibration_chart, interval_chart
from job.report.page.effort import Effort, effort_of
from job.report.page.freeze_diagram import FreezeDiagram, network_of
from job.report.page.learning import Learning, learning_of
from job.report.page.shown import Shelf, shown_examples
from job.wording import METRICS, plural

MOST_MATRIX = 24
"""Classes of a confusion matrix; of more, the pairs that are confused most are listed."""
MOST_PAIRS = 40
MOST_BARS = 60
"""Bars of the arrivals: days; months where there are more of them, then years."""


@dataclass(frozen=True)
class MetricRow:
    name: str
    label: str
    cells: list[tuple[float | None, Interval | None]]
    """Value and interval of each model."""
    gain: Interval | None
    method: str


@dataclass(frozen=True)
class Pair:
    truth: str
    answer: str
    count: int
    share: float
    """The part of the examples of that class."""


@dataclass(frozen=True)
class Page:
    """What the page says beside what the run's documents say."""

    verdict: str
    metrics: list[MetricRow]
    quality: Markup
    common: tuple[str, float]
    learning: Learning
    classes: list[ClassRow]
    matrix: list[list[int]] | None
    pairs: list[Pair]
    groups: list[GroupRow]
    no_groups: str | None
    bins: list[Bin]
    reliability: Markup
    errors: dict[str, float]
    """The calibration error of each model."""
    examples: Shelf
    rejects: dict[str, int]
    rejected: list[tuple[str, str]]
    totals: dict[str, int]
    arrivals: Markup | None
    network: FreezeDiagram
    effort: Effort
    settings: str
    facts: list[tuple[str, str]]
    links: list[tuple[str, str, str | None]]
    """What, its URI, and where a browser finds it."""
    warm_start: str | None


def gather(documents: Documents, examples: ShownExamples, versions: dict[str, str]) -> Page:
    """Asks the exported model about some of the examples; everything else is in `documents`. `versions`: of the
    libraries that the run was finished with; empty where they are not known.
    """
    job, snapshot, answered, kept = documents.job, documents.snapshot, documents.predictions, documents.kept
    intervals = {model: metric_intervals(answered, model, job.train.seed) for model in documents.models}
    metrics = _metrics(documents, intervals)
    accuracy = intervals[kept]["accuracy"]
    assert accuracy is not None
    gained = next((row.gain for row in metrics if row.name == "accuracy"), None)
    confusion = documents.metrics[kept].confusion
    calibrations = {model: calibration(answered.chances[model], answered.labels) for model in documents.models}
    bins, error = calibrations[kept]
    groups, no_groups = groups_of(job, answered, kept)
    rejects = Counter(snapshot.rejects) + Counter(reason for _, reason in documents.decoded_rejects)
    return Page(
        verdict=verdict(documents, accuracy, gained),
        metrics=metrics,
        quality=interval_chart(intervals),
        common=majority(documents),
        learning=learning_of(documents.training),
        classes=class_rows(confusion, snapshot.classes),
        matrix=confusion if len(snapshot.classes) <= MOST_MATRIX else None,
        pairs=_pairs(confusion, snapshot.classes),
        groups=groups,
        no_groups=no_groups,
        bins=bins,
        reliability=calibration_chart(bins, error),
        errors={model: error for model, (_, error) in calibrations.items()},
        examples=shown_examples(documents, examples),
        rejects=dict(rejects.most_common()),
        rejected=[*documents.listed_rejects, *documents.decoded_rejects][:MOST_REJECTS],
        totals={name: sum(snapshot.counts[split].get(name, 0) for split in SPLITS) for name in snapshot.classes},
        arrivals=_arrivals(snapshot.arrivals),
        network=network_of(documents),
        effort=effort_of(documents),
        settings=yaml.safe_dump(job.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True),
        facts=_facts(documents, versions),
        links=_links(documents),
        warm_start=documents.warm_start.reason if documents.warm_start and job.phases.head.warm_start else None,
    )


def _metrics(documents: Documents, intervals: dict[str, dict[str, Interval | None]]) -> list[MetricRow]:
    rows = []
    for name, label in METRICS.items():
        cells = [(getattr(documents.metrics[model], name), intervals[model][name]) for model in intervals]
        both = len(intervals) == 2
        gained = gain(documents.predictions, name, documents.job.train.seed) if both else None
        rows.append(MetricRow(name, label, cells, gained, METHODS[name]))
    return rows


def _pairs(confusion: list[list[int]], classes: list[str]) -> list[Pair]:
    wrong = [
        Pair(classes[true], classes[answer], confusion[true][answer], confusion[true][answer] / sum(confusion[true]))
        for true, answer in wrong_answers(confusion)
    ]
    return sorted(wrong, key=lambda pair: (-pair.count, -pair.share))[:MOST_PAIRS]


def _arrivals(days: dict[str, int]) -> Markup | None:
    if not days:
        return None
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    months = 12 * (last.year - first.year) + last.month - first.month + 1
    every = [f"{first + timedelta(days=number)}" for number in range((last - first).days + 1)]
    length = len("2026-01-01") if len(every) <= MOST_BARS else len("2026-01") if months <= MOST_BARS else len("2026")
    bars = dict.fromkeys((day[:length] for day in every), 0)
    for day, count in days.items():
        bars[day[:length]] += count
    total = plural(sum(days.values()), "example")
    return bar_chart(f"Arrivals: {total} from {min(days)} to {max(days)}", list(bars.items()))


def _facts(documents: Documents, versions: dict[str, str]) -> list[tuple[str, str]]:
    base = documents.base
    facts = [
        ("run", documents.run),
        ("snapshot", documents.snapshot.id),
        ("pretrained weights, sha256", base.weights_sha256 if base else "the store does not know them any more"),
        ("seed", str(documents.job.train.seed)),
    ]
    if not versions:
        return [*facts, ("versions", "not recorded")]
    return [*facts, *versions.items()]


def _links(documents: Documents) -> list[tuple[str, str, str | None]]:
    uri = documents.uri
    links = [("model", documents.model)]
    links += [("run", uri), ("model card", f"{uri}report/card.md"), ("run record", f"{uri}record.json")]
    links += [("answers to the test examples", f"{uri}predictions.parquet"), ("examples", documents.job.data.source)]
    if documents.training.range_tests:
        links.append(("range tests", f"{uri}report/range_tests.svg"))
    return [(what, where, browsable(where)) for what, where in links]


def browsable(uri: str) -> str | None:
    """Where a browser shows what a URI names; None where no such page is known."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme == "file":
        return f"file://{quote(rest)}"
    if scheme == "gs" and not os.environ.get("STORAGE_EMULATOR_HOST"):
        return f"https://console.cloud.google.com/storage/browser/{bucket}/{quote(key)}"
    if scheme == "s3" and not any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")):
        return f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={quote(key, safe='')}"
    return None
