"""Seconds of each stage: measured here, or taken from the last run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from job.config import Job
from job.data.order import steps_per_epoch
from job.run.cluster import is_local
from job.run.forecast.cached import Missing
from job.run.forecast.calibration import Speeds
from job.run.forecast.costs import Phase, Range
from job.run.forecast.history import EXTRACTING, History

STARTS = {"weights": 0.3, "start": 1.4, EXTRACTING: 1.2, "workers": 2.8, "export": 0.4, "report": 0.6}
"""What does not depend on the data, in times of what a worker's process takes to start (TensorFlow's import, and the
network): the demo's, on two cores."""
USUAL = Range(8, 12, 30)
"""Seconds of such a start, from an idle machine to a busy one; what was measured is as uncertain."""
EPOCH = 0.4
"""Seconds of each epoch beside its steps: the proof of its order, its history, what is told of it."""
EXCHANGE = 250e6
"""Bytes a second at which workers exchange gradients."""


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: Range | None
    """None where nothing was measured that tells."""
    source: str
    """Where that is from: `measured`, `calibration`, `last run` or `constant`."""


def stages(
    job: Job,
    listed: float,
    prepared: bool,
    missing: Missing,
    phases: list[Phase],
    counts: dict[str, int],
    speeds: Speeds | None,
    history: History | None,
) -> list[Stage]:
    """In their order. `counts` are the examples of each split; `prepared` is whether the store has the weights."""
    found = [Stage("listing", Range(listed, listed, listed), "measured")]
    fixed = partial(_fixed, speeds=speeds, history=history)
    if not prepared:
        found.append(fixed("weights"))
    found += [fixed("start"), _extracting(job, missing, speeds, history), fixed("workers")]
    found += [_training(job, phase, counts, speeds, history) for phase in phases]
    return [*found, fixed("export"), fixed("report")]


def total(stages: list[Stage]) -> Range | None:
    """None where a stage is not known."""
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    if len(known) < len(stages):
        return None
    return Range(sum(r.low for r in known), sum(r.likely for r in known), sum(r.high for r in known))


def _fixed(name: str, speeds: Speeds | None, history: History | None) -> Stage:
    if history is not None and name in history.fixed:
        seconds = history.fixed[name]
        return Stage(name, Range(seconds, seconds, seconds), "last run")
    return Stage(name, _start(speeds).scaled(STARTS[name]), "calibration" if speeds else "constant")


def _start(speeds: Speeds | None) -> Range:
    return USUAL.scaled(speeds.start / USUAL.likely) if speeds else USUAL


def _extracting(job: Job, missing: Missing, speeds: Speeds | None, history: History | None) -> Stage:
    if not missing.examples:
        return Stage(EXTRACTING, Range(0, 0, 0), "measured")
    if history is not None and history.example is not None:
        seconds = missing.examples * history.example
        return Stage(EXTRACTING, Range(seconds, seconds, seconds), "last run")
    if speeds is None:
        return Stage(EXTRACTING, None, "calibration")
    each = 1 if is_local() else job.scaling.max_workers  # networks that work side by side
    seconds = missing.passes * speeds.network / each + missing.examples * speeds.decode / each
    return Stage(EXTRACTING, _start(speeds).scaled(STARTS[EXTRACTING]).plus(seconds), "calibration")


def _training(job: Job, phase: Phase, counts: dict[str, int], speeds: Speeds | None, history: History | None) -> Stage:
    if history is not None and phase.name in history.seconds:
        return Stage(phase.name, phase.epochs.scaled(history.seconds[phase.name] * counts["train"]), "last run")
    if speeds is None:
        return Stage(phase.name, None, "calibration")
    size, workers = job.train.batch_size, job.scaling.max_workers
    speed = speeds.head if phase.name == "head" else speeds.fine_tune
    assert speed is not None
    exchanged = 0 if speeds.exchanged else 2 * (workers - 1) / workers * 4 * (phase.trainable or 0)
    step = speed.step + exchanged / EXCHANGE
    epoch = (
        steps_per_epoch(counts["train"], size) * step
        + steps_per_epoch(counts["validation"], size) * speed.predict
        + EPOCH
    )
    return Stage(phase.name, phase.epochs.scaled(epoch).plus(speed.compile), "calibration")
