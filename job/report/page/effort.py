"""What a run took: time and cost by stage, and what the stored features saved."""

from __future__ import annotations

from dataclasses import dataclass

from job.evaluation.documents import Documents
from job.wording import duration, plural

HOUR = 3600.0
NAMES = {
    "listing": "listing the source",
    "indexing": "indexing shards",
    "preparing": "weights, plan, start of Ray",
    "words": "words of the texts",
    "features": "features: decode, frozen layers",
    "comparing": "worth training?",
    "workers": "starting and ending workers",
    "head": "head",
    "fine_tune": "fine-tuning",
    "export": "export",
    "promotion": "comparison with the model in use",
    "report": "reports of attempts before",
}


@dataclass(frozen=True)
class StageRow:
    name: str
    attempts: int
    seconds: float
    share: float
    """The part of the longest stage's time."""
    workers: str
    computed: int | None
    stored: int | None
    cost: float | None


@dataclass(frozen=True)
class Effort:
    stages: list[StageRow]
    """Empty where the run did not write them down."""
    attempts: int
    seconds: float
    cost: float | None
    """Cost of the workers; None where `scaling.worker_price` is null."""
    training: list[tuple[str, int, float]]
    """For each phase: its name, the epochs that count, and their seconds."""
    saved: list[str]


def effort_of(documents: Documents) -> Effort:
    price = documents.job.scaling.worker_price
    # A stage that has only begun, as that of the report which the page is part of, says nothing.
    rows = [row for row in documents.timings if row["seconds"] or row["computed"] or row["stored"]]
    names = dict.fromkeys(row["stage"] for row in rows)
    totals = {name: sum(row["seconds"] for row in rows if row["stage"] == name) for name in names}
    longest = max(totals.values(), default=0.0) or 1.0
    stages = []
    for name, seconds in totals.items():
        mine = [row for row in rows if row["stage"] == name]
        workers = sorted({row["workers"] for row in mine if row["workers"]})
        hours = sum(row["seconds"] * row["workers"] for row in mine if row["workers"]) / HOUR
        cost = hours * price if price is not None and workers else None
        computed, stored = (_total([row[key] for row in mine]) for key in ("computed", "stored"))
        told = "–".join(str(number) for number in dict.fromkeys((workers[0], workers[-1]))) if workers else ""
        attempts = len({row["attempt"] for row in mine})
        share = seconds / longest
        stages.append(StageRow(NAMES.get(name, name), attempts, seconds, share, told, computed, stored, cost))
    costs = [row.cost for row in stages if row.cost is not None]
    return Effort(
        stages,
        len({row["attempt"] for row in documents.timings}),
        sum(totals.values()),
        sum(costs) if costs else None,
        _training(documents),
        _saved(documents),
    )


def _total(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return max(known) if known else None


def _training(documents: Documents) -> list[tuple[str, int, float]]:
    found = []
    for phase, records in documents.training["history"].items():
        timed = [record["seconds"] for record in records if "seconds" in record]
        if timed:
            found.append((NAMES[phase], len(timed), float(sum(timed))))
    return found


def _saved(documents: Documents) -> list[str]:
    """Examples × epochs × seconds an example; a sentence for each phase."""
    plan = documents.plan or {}
    checked = sum(documents.snapshot.counts["validation"].values())
    whole, how = _seconds_of_base(documents)
    share = plan["seconds_below"] / plan["seconds_whole"] if plan.get("seconds_below") else 0.0
    told, total = [], 0.0
    for phase, each in (("head", whole), ("fine_tune", whole * share)):
        records = [record for record in documents.training["history"].get(phase, ()) if "loss" in record]
        if not records or not each:
            continue
        passes = sum(record.get("examples", 0) + checked for record in records)
        total += passes * each
        what = "the whole frozen network" if phase == "head" else f"what lies below {plan['cut']}"
        told.append(
            f"{plural(len(records), 'epoch')} of {NAMES[phase]} read {passes:,} stored outputs instead of computing "
            f"{what} each time: about {duration(passes * each)} saved."
        )
    return [*told, f"{duration(total)} in all, at the speed {how}."] if told else []


def _seconds_of_base(documents: Documents) -> tuple[float, str]:
    """Seconds of the whole frozen network for one example, 0 where unknown, and where that is from: the lower of what
    was measured before the run and what its own features took, decoding and the start of processes included.
    """
    planned = (documents.plan or {}).get("seconds_whole")
    rows = [row for row in documents.timings if row["stage"] == "features" and row["computed"]]
    if planned is None:
        return 0.0, ""
    if rows:
        snapshot, views = documents.snapshot, documents.job.train.views
        trained = sum(snapshot.counts["train"].values()) / snapshot.examples
        passes = sum(row["computed"] for row in rows) * (1 + (views - 1) * trained)
        taken = sum(row["seconds"] for row in rows) / passes
        if taken < planned:
            return taken, "at which this run computed its features"
    return planned, "that the planning machine measured before the run"
