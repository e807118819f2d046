"""Everything that the page says, ready to be laid out."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

import yaml
from markupsafe import Markup

from job.data.splits import SPLITS
from job.evaluation.documents import MOST_REJECTS, Documents
from job.evaluation.groups import groups_of
from job.evaluation.intervals import (
    BINS,
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
from job.evaluation.verdict import majority, verdict
from job.report.examples import ShownExamples
from job.report.page.charts import MetricIntervals, bar_chart, calibration_chart, interval_chart
from job.report.page.effort import Effort, effort_of
from job.report.page.freeze_diagram import FreezeDiagram, network_of
from job.report.page.learning import Learning, learning_of
from job.report.page.shown import Shelf, shown_examples
from job.wording import METRICS, NAMES, percent, plural

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
    title: str
    run: str
    verdict: str
    promotion: str | None
    promoted: bool | None
    models: list[str]
    answered: str
    metrics: list[MetricRow]
    quality: Markup
    common: tuple[str, float]
    learning: Learning
    classes: list[ClassRow]
    matrix: list[list[int]] | None
    pairs: list[Pair]
    groups: list[GroupRow]
    no_groups: str | None
    group: str | None
    bins: list[Bin]
    reliability: Markup
    errors: dict[str, float]
    """The calibration error of each model."""
    examples: Shelf
    rejects: dict[str, int]
    rejected: list[tuple[str, str]]
    snapshot: Any
    totals: dict[str, int]
    largest: int
    arrivals: Markup | None
    network: FreezeDiagram
    effort: Effort
    settings: str
    facts: list[tuple[str, str]]
    links: list[tuple[str, str, str | None]]
    """What, its URI, and where a browser finds it."""
    warm_start: str | None
    words: dict[str, Any] | None


def gather(documents: Documents, examples: ShownExamples, versions: dict[str, str]) -> Page:
    """Asks the exported model about some of the examples; everything else is in `documents`. `versions`: of the
    libraries that the run was finished with; empty where they are not known.
    """
    job, snapshot, answered, kept = documents.job, documents.snapshot, documents.predictions, documents.kept
    seed, models = job.train.seed, documents.models
    intervals = {model: metric_intervals(answered, model, seed) for model in models}
    metrics = _metrics(documents, intervals)
    accuracy = intervals[kept]["accuracy"]
    assert accuracy is not None
    gained = next((row.gain for row in metrics if row.name == "accuracy"), None)
    confusion = documents.result["metrics"][kept]["confusion"]
    bins, _ = calibration(answered.chances[kept], answered.labels)
    errors = {model: calibration(answered.chances[model], answered.labels)[1] for model in models}
    groups, no_groups = groups_of(job, answered, kept)
    few = len(snapshot.classes) <= MOST_MATRIX
    rejects = Counter(snapshot.rejects) + Counter(reason for _, reason in documents.decoded_rejects)
    totals = {label: sum(snapshot.counts[split].get(label, 0) for split in SPLITS) for label in snapshot.classes}
    promotion = documents.promotion
    return Page(
        title=job.name,
        run=documents.run,
        verdict=verdict(documents, accuracy, gained),
        promotion=promotion["reason"] if promotion else None,
        promoted=promotion["promoted"] if promotion else None,
        models=models,
        answered=plural(len(answered.labels), "test example"),
        metrics=metrics,
        quality=_quality(metrics, models),
        common=majority(documents),
        learning=learning_of(documents.training),
        classes=class_rows(confusion, snapshot.classes),
        matrix=confusion if few else None,
        pairs=_pairs(confusion, snapshot.classes),
        groups=groups,
        no_groups=no_groups,
        group=job.data.table.group if job.data.table else None,
        bins=bins,
        reliability=calibration_chart(_calibrated(errors[kept]), bins),
        errors=errors,
        examples=shown_examples(documents, examples),
        rejects=dict(rejects.most_common()),
        rejected=[*documents.listed_rejects, *documents.decoded_rejects][:MOST_REJECTS],
        snapshot=snapshot,
        totals=totals,
        largest=max(totals.values()),
        arrivals=_arrivals(snapshot.arrivals),
        network=network_of(documents),
        effort=effort_of(documents),
        settings=yaml.safe_dump(job.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True),
        facts=_facts(documents, versions),
        links=_links(documents),
        warm_start=(documents.warm_start or {}).get("reason") if job.phases.head.warm_start else None,
        words=documents.words,
    )


def _metrics(documents: Documents, intervals: dict[str, dict[str, Interval | None]]) -> list[MetricRow]:
    rows = []
    for name, label in METRICS.items():
        cells = [(documents.result["metrics"][model][name], intervals[model][name]) for model in intervals]
        both = len(intervals) == 2
        gained = gain(documents.predictions, name, documents.job.train.seed) if both else None
        rows.append(MetricRow(name, label, cells, gained, METHODS[name]))
    return rows


def _quality(metrics: list[MetricRow], models: list[str]) -> Markup:
    rows = []
    for row in metrics:
        pairs = zip(models, row.cells, strict=True)
        if known := {model: interval for model, (_, interval) in pairs if interval is not None}:
            rows.append(MetricIntervals(row.name, row.label, known))
    names = {model: NAMES[model] for model in models}
    told = f"{' and '.join(names.values())}: each metric of the table beside, with its 95 % interval"
    return interval_chart(told, names, rows)


def _pairs(confusion: list[list[int]], classes: list[str]) -> list[Pair]:
    wrong = [
        Pair(classes[true], classes[answer], confusion[true][answer], confusion[true][answer] / sum(confusion[true]))
        for true, answer in wrong_answers(confusion)
    ]
    return sorted(wrong, key=lambda pair: (-pair.count, -pair.share))[:MOST_PAIRS]


def _calibrated(error: float) -> str:
    return f"Calibration: the share of right answers in {BINS} ranges of probability; on average {percent(error)} apart"


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
    found = [("model", documents.result["model"])]
    found += [("run", uri), ("model card", f"{uri}report/card.md"), ("run record", f"{uri}record.json")]
    found += [("answers to the test examples", f"{uri}predictions.parquet"), ("examples", documents.job.data.source)]
    if documents.training.get("range_tests"):
        found.append(("range tests", f"{uri}report/range_tests.svg"))
    return [(what, where, browsable(where)) for what, where in found]


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
