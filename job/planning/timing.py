"""Seconds of each stage: measured here, or taken from the last run."""

from __future__ import annotations

from dataclasses import dataclass

from job.config import Job
from job.data.order import steps_per_epoch
from job.executors.placement import head_on_cpus, is_here
from job.planning.cached import MissingFeatures
from job.planning.calibration import EPOCH, EXCHANGE, Speeds
from job.planning.costs import PhaseCosts, Range
from job.planning.history import EXTRACTING, History

STARTS = {
    "local": {"preparing": 2.0, EXTRACTING: 0.6, "workers": 0.6, "export": 3.4, "report": 2.0},
    "ray": {"preparing": 2.8, EXTRACTING: 3.4, "workers": 5.0, "export": 3.2, "report": 2.0},
}
"""What does not depend on the data, in times of what TensorFlow's import and the building of the network take: the
demo's, on two cores."""
WEIGHTS = 0.4
"""Added to `preparing` where the weights are not in the store yet."""
OTHERS = ("indexing", "words", "comparing")
"""Stages before the features that only some runs have: told as the last run had them."""
USUAL = Range(6, 8.5, 21)
"""Seconds of such a start, from an idle machine to a busy one; what was measured is as uncertain."""
CALIBRATED = 0.8, 1.5
"""How far a run's time may be from a calibrated one, which lacks what else the stage does, and a store far away."""
AGAIN = 0.9, 1.2
"""How far a run's time may be from that of the last run."""


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: Range | None
    """None where nothing was measured that tells."""
    source: str
    """Where that is from: `measured`, `calibration`, `derived` (from what the calibration's processes took to start),
    `last run` or `constant`."""


def stages(
    job: Job,
    listed: float,
    prepared: bool,
    *,
    missing: MissingFeatures,
    phases: list[PhaseCosts],
    counts: dict[str, int],
    speeds: Speeds | None,
    history: History | None,
) -> list[Stage]:
    """In their order. `counts` are the examples of each split; `prepared` is whether the store has the weights."""
    times = dict(STARTS["local" if job.scaling.executor == "local" else "ray"])
    times["preparing"] += 0 if prepared else WEIGHTS
    times["workers"] *= 2 if head_on_cpus(job) and len(phases) > 1 else 1  # those of the head start first
    start = USUAL.scaled(speeds.start / USUAL.likely) if speeds else USUAL
    last = history.fixed if history else {}

    def fixed(name: str) -> Stage:
        if name in last:
            return Stage(name, _exactly(last[name]).within(*AGAIN), "last run")
        return Stage(name, start.scaled(times[name]), "derived" if speeds else "constant")

    return [
        Stage("listing", _exactly(listed), "measured"),
        *map(fixed, ("preparing", *(name for name in OTHERS if name in last))),
        _extracting(job, missing, speeds, history=history, start=start.scaled(times[EXTRACTING])),
        fixed("workers"),
        *(_training(job, phase, counts, speeds=speeds, history=history) for phase in phases),
        fixed("export"),
        fixed("report"),
    ]


def total(stages: list[Stage]) -> Range | None:
    """None where a stage is not known."""
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    return Range.total(known) if len(known) == len(stages) else None


def _exactly(seconds: float) -> Range:
    return Range(seconds, seconds, seconds)


def _extracting(
    job: Job, missing: MissingFeatures, speeds: Speeds | None, *, history: History | None, start: Range
) -> Stage:
    if not missing.examples:
        return Stage(EXTRACTING, _exactly(0), "measured")
    if history is not None and history.example is not None:
        return Stage(EXTRACTING, _exactly(missing.examples * history.example).within(*AGAIN), "last run")
    if speeds is None:
        return Stage(EXTRACTING, None, "calibration")
    each = 1 if is_here() else job.scaling.max_workers  # networks that work side by side
    working = _exactly((missing.passes * speeds.network + missing.examples * speeds.decode) / each)
    return Stage(EXTRACTING, Range.total([start, working.within(*CALIBRATED)]), "calibration")


def _training(
    job: Job, phase: PhaseCosts, counts: dict[str, int], *, speeds: Speeds | None, history: History | None
) -> Stage:
    if history is not None and phase.name in history.seconds:
        epoch = history.seconds[phase.name] * counts["train"]
        return Stage(phase.name, phase.epochs.scaled(epoch).within(*AGAIN), "last run")
    if speeds is None:
        return Stage(phase.name, None, "calibration")
    size, workers = job.train.batch_size, job.scaling.max_workers
    speed = speeds.head if phase.name == "head" else speeds.fine_tune
    assert speed is not None
    exchanged = 2 * (workers - 1) / workers * 4 * (phase.trainable or 0)
    step = speed.step + exchanged / EXCHANGE
    epoch = (
        steps_per_epoch(counts["train"], size) * step
        + steps_per_epoch(counts["validation"], size) * speed.predict
        + EPOCH
    )
    return Stage(phase.name, phase.epochs.scaled(epoch).plus(speed.compile).within(*CALIBRATED), "calibration")
