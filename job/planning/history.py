"""How long a run like this one took the last time: from its history, and from its stages where they were timed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from pydantic import ValidationError

from job.config import Job
from job.registry.current import read_current
from job.run.outcome import Training
from job.run.timings import StageTiming, read_timings
from job.storage import Store, read_json
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys

EXTRACTING = "features"
TRAINING = ("head", "fine_tune")


@dataclass(frozen=True)
class History:
    """What is known from a finished run with the same network, the same thawed layers and as many workers."""

    run: str
    epochs: dict[str, int]
    """Made in each phase."""
    seconds: dict[str, float]
    """Seconds of an epoch, per training example, by phase."""
    example: float | None
    """Seconds to decode and compute the features of an example, all its views together; None where no timed attempt
    computed any."""
    fixed: dict[str, float]
    """Seconds of the other stages."""


def last_like(job: Job, store: Store, run: str | None) -> History | None:
    """The history of this run itself, or of the run whose model is in use."""
    current = read_current(store, job.name)
    names = [run, current.run if current else None]
    for name in dict.fromkeys(name for name in names if name is not None):
        training = read_document(store, RunKeys(name).training, Training)
        if training is not None and _alike(job, read_json(store, RunKeys(name).job)):
            return _history(name, training, read_timings(store, name))
    return None


def _alike(job: Job, stored: Any) -> bool:
    try:
        return _pace(Job.model_validate(stored)) == _pace(job)
    except ValidationError:
        return False


def _pace(job: Job) -> tuple[Any, ...]:
    """What of a job decides how long a step takes."""
    scaling, fine_tune = job.scaling, job.phases.fine_tune
    train = job.train.model_dump(include={"batch_size", "precision", "views", "cache", "jit_compile", "deterministic"})
    placed = scaling.executor == "local", scaling.gpu, scaling.gpu and scaling.head_on, scaling.cpus_per_worker
    workers = scaling.max_workers, *placed
    return job.model, workers, train, fine_tune and fine_tune.unfreeze


def _history(run: str, training: Training, stages: list[StageTiming]) -> History:
    epochs, seconds = {}, {}
    for name, records in training.history.items():
        paces = [record.seconds / record.examples for record in records if record.seconds and record.examples]
        if paces:
            epochs[name] = len(paces)
            seconds[name] = median(paces)
    computing = [stage for stage in stages if stage.stage == EXTRACTING and stage.computed]
    computed = sum(stage.computed or 0 for stage in computing)
    example = sum(stage.seconds for stage in computing) / computed if computed else None
    others = {stage.stage: stage.seconds for stage in stages if stage.stage not in (EXTRACTING, *TRAINING)}
    return History(run, epochs, seconds, example, others)
