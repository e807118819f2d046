"""The model card: Markdown with the metadata that model hubs read (Mitchell et al. 2019, "Model Cards").

It depends on the run alone, not on time or place: it is a part of the export, whose bytes must be reproducible.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

import yaml

from job.data.splits import SPLITS
from job.evaluation.groups import groups_of
from job.evaluation.intervals import Interval, class_rows, gain, metric_intervals
from job.evaluation.run_documents import Documents
from job.evaluation.verdict import majority
from job.wording import METRICS, NAMES, between, counted, metric, percent, plural, points, shortened

MOST_CLASSES = 200
"""The most rows of the table of classes; the largest classes are listed."""
SPECIAL = re.compile(r"([\\`*_{}\[\]#|~!])")
NOT_STATED = "Not stated: `card` in the job file says it."


def model_card(documents: Documents, thaw: str | None) -> str:
    """The model card in Markdown. `thaw` is the version that finished the run, where that is known."""
    job, predictions, kept = documents.job, documents.predictions, documents.kept
    parts = [
        _metadata(documents),
        f"# {md(job.name)}",
        _summary(documents),
        "## Intended use",
        _statement(job.card.intended_use),
        *(["Authors: " + ", ".join(md(author) for author in job.card.authors)] if job.card.authors else []),
        f"Licence: {md(job.card.licence)}" if job.card.licence else f"Licence: {NOT_STATED}",
        _base_licence(documents),
        "## Data",
        *_data(documents),
        "## Measured on the test split",
        *_measured(documents),
        "### By class",
        *_classes(documents),
    ]
    groups, why = groups_of(job, predictions, kept)
    if groups:
        assert job.data.table is not None
        rows = [(row.name, f"{row.examples:,}", _share(row.accuracy)) for row in groups]
        parts += [f"### By {md(job.data.table.group or 'group')}", _table(("group", "examples", "accuracy"), rows)]
    elif why:
        parts += ["### By group", md(why)]
    parts += [
        "## Limits",
        _statement(job.card.limits),
        "\n".join(_known_limits(documents)),
        "## How it was made",
        _provenance(documents, thaw),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def md(text: str) -> str:
    """The text in one line, with all mark-up of Markdown and HTML escaped."""
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _metadata(documents: Documents) -> str:
    job = documents.job
    tags = ["thaw", "transfer-learning", job.task]
    named = {"license": job.card.licence or "unknown", "library_name": "keras", "tags": tags}
    named["pipeline_tag"] = "text-classification" if job.task == "text" else "image-classification"
    return f"---\n{yaml.safe_dump(named, sort_keys=False, allow_unicode=True)}---"


def _summary(documents: Documents) -> str:
    job, classes = documents.job, documents.snapshot.classes
    what = "texts" if job.task == "text" else "pictures"
    names = ", ".join(md(shortened(name, 60)) for name in classes[:10])
    more = f" and {len(classes) - 10:,} more" if len(classes) > 10 else ""
    tuned = ", then the top layers were fine-tuned" if documents.kept == "fine_tune" else ""
    return (
        f"Sorts {what} into {plural(len(classes), 'class', 'classes')}: {names}{more}. Transfer learning from "
        f"{md(job.model.backbone)}: a dense head was trained on the frozen network{tuned}."
    )


def _base_licence(documents: Documents) -> str:
    return f"The pretrained weights ({md(documents.job.model.backbone)}) and the examples have licences of their own."


def _data(documents: Documents) -> Iterable[str]:
    snapshot = documents.snapshot
    lost = sum(snapshot.rejects.values()) + len(documents.decoded_rejects)
    yield (
        f"Snapshot `{snapshot.id}` of {md(documents.job.data.source)}: {plural(snapshot.examples, 'example')}, and "
        f"{plural(lost, 'object')} that could not be used."
        + (f" Left out: {md(counted(snapshot.left_out))}." if snapshot.left_out else "")
    )
    totals = [sum(snapshot.counts[split].values()) for split in SPLITS]
    yield _table(("", *SPLITS), [("examples", *(f"{total:,}" for total in totals))])


def _measured(documents: Documents) -> Iterable[str]:
    seed, predictions = documents.job.train.seed, documents.predictions
    columns = {name: metric_intervals(predictions, name, seed) for name in documents.models}
    rows = []
    for name, label in METRICS.items():
        cells = [_cell(name, getattr(documents.metrics[model], name), columns[model][name]) for model in columns]
        rows.append((label, *cells))
    yield _table(("", *(NAMES[model] for model in columns)), rows)
    common, share = majority(documents)
    kept = NAMES[documents.kept]
    yield (
        f"The exported model is the {kept} one. In brackets are 95 % intervals. Always answering {md(common)} would be "
        f"right in {percent(share)}."
    )
    if len(documents.models) == 2:
        gained = gain(predictions, "accuracy", seed)
        assert gained is not None
        span = f"{points(gained.low)} to {points(gained.high)}"
        yield f"Fine-tuning changed the accuracy by {points(gained.value)} points ({span}, paired bootstrap)."


def _classes(documents: Documents) -> Iterable[str]:
    rows_by_class = class_rows(documents.metrics[documents.kept].confusion, documents.snapshot.classes)
    shown = (
        sorted(rows_by_class, key=lambda row: -row.support)[:MOST_CLASSES]
        if len(rows_by_class) > MOST_CLASSES
        else rows_by_class
    )
    rows = [(row.name, f"{row.support:,}", _share(row.precision), _share(row.recall)) for row in shown]
    yield _table(("class", "test examples", "precision", "recall"), rows)
    if len(shown) < len(rows_by_class):
        yield f"The {len(shown)} largest of {len(rows_by_class):,} classes."


def _known_limits(documents: Documents) -> Iterable[str]:
    snapshot, job = documents.snapshot, documents.job
    few = [label for label in snapshot.classes if snapshot.counts["test"].get(label, 0) < 30]
    if few:
        named = ", ".join(md(shortened(label, 40)) for label in few[:20]) + (", …" if len(few) > 20 else "")
        yield f"- Fewer than 30 test examples, so that little is known about them: {named}."
    yield "- It knows these classes alone: whatever else it is given, it answers with one of them."
    if job.task == "text":
        yield f"- It looks at the first {job.model.max_tokens} words of a text."
    else:
        yield f"- It sees pictures at {job.model.image_size} × {job.model.image_size} pixels."


def _provenance(documents: Documents, thaw: str | None) -> str:
    job, base = documents.job, documents.base
    weights = f", weights sha256 `{base.weights_sha256}`" if base else ""
    return (
        f"Run `{documents.run}` of Thaw{f' {thaw}' if thaw else ''}, seed {job.train.seed}{weights}. `labels.json` has "
        "the classes in the order of the probabilities."
    )


def _statement(text: str | None) -> str:
    """A text of the job file as paragraphs without mark-up."""
    if text is None:
        return NOT_STATED
    return "\n\n".join(md(part) for part in re.split(r"\n\s*\n", text) if part.strip())


def _cell(name: str, value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "–"
    return metric(name, value) + (f" ({between(name, interval)})" if interval else "")


def _share(interval: Interval | None) -> str:
    return f"{percent(interval.value)} ({between('', interval)})" if interval else "–"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", *("---:" for _ in head[1:])), *((md(name), *cells) for name, *cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
