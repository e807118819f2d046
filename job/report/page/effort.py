"""What a run took: time and cost by stage, and what the stored features saved."""

from __future__ import annotations

from dataclasses import dataclass

from job.evaluation.run_documents import Documents
from job.run.timings import StageTiming
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

    @property
    def longest(self) -> float:
        """Seconds of the longest stage."""
        return max((row.seconds for row in self.stages), default=0.0) or 1.0


def effort_of(documents: Documents) -> Effort:
    # A stage that has only begun, as that of the report which the page is part of, says nothing.
    rows = [row for row in documents.timings if row.seconds or row.computed or row.stored]
    names, price = dict.fromkeys(row.stage for row in rows), documents.job.scaling.worker_price
    stages = [_stage(name, [row for row in rows if row.stage == name], price) for name in names]
    costs = [row.cost for row in stages if row.cost is not None]
    return Effort(
        stages,
        attempts=_attempts(documents.timings),
        seconds=sum(row.seconds for row in stages),
        cost=sum(costs) if costs else None,
        training=_training(documents),
        saved=_saved(documents),
    )


def _stage(name: str, rows: list[StageTiming], price: float | None) -> StageRow:
    workers = sorted({row.workers for row in rows if row.workers})
    hours = sum(row.seconds * (row.workers or 0) for row in rows) / HOUR
    return StageRow(
        NAMES.get(name, name),
        attempts=_attempts(rows),
        seconds=sum(row.seconds for row in rows),
        workers="–".join(map(str, dict.fromkeys((workers[0], workers[-1])))) if workers else "",
        computed=_most(rows, "computed"),
        stored=_most(rows, "stored"),
        cost=hours * price if price is not None and workers else None,
    )


def _attempts(rows: list[StageTiming]) -> int:
    return len({row.attempt for row in rows})


def _most(rows: list[StageTiming], key: str) -> int | None:
    return max((count for row in rows if (count := getattr(row, key)) is not None), default=None)


def _training(documents: Documents) -> list[tuple[str, int, float]]:
    rows = []
    for phase, records in documents.training.history.items():
        timed = [record.seconds for record in records if record.seconds is not None]
        if timed:
            rows.append((NAMES[phase], len(timed), float(sum(timed))))
    return rows


def _saved(documents: Documents) -> list[str]:
    """Examples × epochs × seconds an example; a sentence for each phase."""
    plan = documents.plan
    checked = sum(documents.snapshot.counts["validation"].values())
    whole, how = _seconds_of_base(documents)
    share = plan.seconds_below / plan.seconds_whole if plan and plan.seconds_below and plan.seconds_whole else 0.0
    sentences, total = [], 0.0
    for phase, each in (("head", whole), ("fine_tune", whole * share)):
        records = documents.training.trained_epochs(phase)
        if not records or not each:
            continue
        passes = sum((record.examples or 0) + checked for record in records)
        total += passes * each
        what = "the whole frozen network" if phase == "head" else f"what lies below {plan.cut if plan else None}"
        sentences.append(
            f"{plural(len(records), 'epoch')} of {NAMES[phase]} read {passes:,} stored outputs instead of computing "
            f"{what} each time: about {duration(passes * each)} saved."
        )
    return [*sentences, f"{duration(total)} in all, at the speed {how}."] if sentences else []


def _seconds_of_base(documents: Documents) -> tuple[float, str]:
    """Seconds of the whole frozen network for one example, 0 where unknown, and where that is from: the lower of what
    was measured before the run and what its own features took, decoding and the start of processes included.
    """
    planned = documents.plan.seconds_whole if documents.plan else None
    rows = [row for row in documents.timings if row.stage == "features" and row.computed]
    if planned is None:
        return 0.0, ""
    if rows:
        snapshot, views = documents.snapshot, documents.job.train.views
        trained = sum(snapshot.counts["train"].values()) / snapshot.examples
        passes = sum(row.computed or 0 for row in rows) * (1 + (views - 1) * trained)
        taken = sum(row.seconds for row in rows) / passes
        if taken < planned:
            return taken, "at which this run computed its features"
    return planned, "that the planning machine measured before the run"
