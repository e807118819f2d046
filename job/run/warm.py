"""What a run takes over from the model in use: what it has trained, to start from, and what it has stored.

runs/<run>/warm_start.json   {source: {run, classes, fine_tuned} or null, reason}: a run that goes on keeps it
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from job.config import GLOVE, Job
from job.data.snapshot import Snapshot
from job.errors import ObjectMissing
from job.run.current import read_current
from job.run.plan import Plan, fits
from job.run.rival import Model, load_model
from job.storage import Store, read_json


@dataclass(frozen=True)
class WarmStart:
    source: dict[str, Any] | None
    """{run, classes, fine_tuned} of the model whose head to start from; None: afresh. `fine_tuned`: whether fine-tuning
    starts from its layers as well."""
    reason: str
    """In one line."""


def warm_start(job: Job, run: str, store: Store, base: dict[str, Any], classes: list[str]) -> WarmStart:
    """What was decided for this run, or is decided now."""
    key = f"runs/{run}/warm_start.json"
    stored = read_json(store, key)
    if stored is None:
        stored = asdict(_chosen(job, run, store, base, classes))
        store.write(key, json.dumps(stored, indent=1).encode())
    return WarmStart(**stored)


def plan_in_use(job: Job, run: str, store: Store, base: dict[str, Any], snapshot: Snapshot) -> Plan | None:
    """The plan of the model in use, where this run could have the same: what it has stored is read, not computed."""
    model = _in_use(job, run, store)
    if model is None or _stored_as(model.job) != _stored_as(job) or asdict(model.base) != base:
        return None
    return model.plan if fits(job, model.plan, snapshot) else None


def _chosen(job: Job, run: str, store: Store, base: dict[str, Any], classes: list[str]) -> WarmStart:
    if not job.phases.head.warm_start:
        return WarmStart(None, "phases.head.warm_start: false")
    model = _in_use(job, run, store)
    if model is None:
        return WarmStart(None, "no model is in use to start the head from")
    same = model.job.model == job.model and model.job.train.precision == job.train.precision
    if not same or asdict(model.base) != base:
        return WarmStart(None, f"the head of {model.run} has other layers, or stands on another base: it starts afresh")
    fresh = [label for label in classes if label not in model.classes]
    told = f"; new classes start afresh: {', '.join(fresh)}" if fresh else ""
    tuned = _can_go_on(job, model)
    what = "the head and the thawed layers start from those" if tuned else "the head starts from that"
    source = {"run": model.run, "classes": model.classes, "fine_tuned": tuned}
    return WarmStart(source, f"{what} of {model.run}{told}")


def _can_go_on(job: Job, model: Model) -> bool:
    """Whether fine-tuning may start from what the model has thawed. Other texts have other words."""
    if job.model.backbone == GLOVE:
        return False
    ours, theirs = job.phases.fine_tune, model.job.phases.fine_tune
    if ours is None or theirs is None or ours.warm_epochs is None:
        return False
    return model.kept == "fine_tune" and ours.unfreeze == theirs.unfreeze


def _in_use(job: Job, run: str, store: Store) -> Model | None:
    current = read_current(store, job.name)
    if current is None or current.run == run:
        return None
    try:
        return load_model(store, current.run)
    except ObjectMissing:
        return None


def _stored_as(job: Job) -> dict[str, Any]:
    """What of a job decides which tensors it stores, and how."""
    fine_tune, train = job.phases.fine_tune, job.train
    return {
        "model": job.model.model_dump(exclude={"head"}),
        "unfreeze": fine_tune and fine_tune.unfreeze.model_dump(),
        "augment": job.augment.model_dump(),
        "train": train.model_dump(include={"precision", "views", "cache", "cache_limit", "cache_dtype"}),
    }
