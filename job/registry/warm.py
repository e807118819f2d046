"""What a run takes over from the model in use: its trained weights to start from, and its stored features.

runs/<run>/warm_start.json   {source: {run, classes, fine_tuned} or null, reason}: decided once for each run
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from job.config import GLOVE, Job
from job.data.snapshot import Snapshot
from job.errors import ObjectMissing
from job.features.cache_plan import Plan, choose_plan, fits, read_plan, write_plan
from job.model.anatomy import Anatomy, anatomy_of, read_anatomy, write_anatomy
from job.model.resolved import ResolvedBase
from job.registry.champion import ChampionModel, load_model
from job.registry.current import read_current
from job.run.events import Announced, Emit, Warned
from job.run.run import Run
from job.storage import Store
from job.storage.documents import read_document, write_document
from job.training.context import WarmSource, WarmStart


def plan_features(run: Run, network: Callable[[], Any], emit: Emit) -> Plan:
    """The plan of the run: the one decided before; else that of the model in use, whose features are stored; else a new
    one. A new plan needs the `network` in which the layers that fine-tuning trains are thawed. Stores the plan and the
    job.
    """
    plan = read_plan(run.store, run.id)
    if plan is None:
        plan = plan_in_use(run.job, run.id, run.store, base=run.base, snapshot=run.snapshot)
        current = read_current(run.store, run.job.name) if plan else None
        anatomy = read_anatomy(run.store, current.run) if current else None
        if plan is None:
            plan = choose_plan(run.job, built := network(), run.snapshot)
            anatomy = anatomy_of(built, plan.cut)
        if anatomy:
            write_anatomy(run.store, run.id, anatomy)
        write_plan(run.store, run.id, plan)
    warn_of_end(run.job, read_anatomy(run.store, run.id), emit)
    emit(Announced(f"cache: {plan.reason}"))
    run.store.write(run.keys.job, run.job.model_dump_json(indent=1, by_alias=True).encode())
    return plan


def warn_of_end(job: Job, anatomy: Anatomy | None, emit: Emit) -> None:
    """Warns of a base that ends in a classifier, unless the job sets model.end_at."""
    if anatomy and anatomy.classifier and job.model.end_at is None:
        emit(Warned(f"model.end_at: {anatomy.classifier.advice(job.model.backbone)}"))


def warm_start(run: Run, emit: Emit) -> WarmStart:
    """The warm start of the run, as decided before, or decided and stored now, before anything is computed for it."""
    warm = read_document(run.store, run.keys.warm_start, WarmStart)
    if warm is None:
        warm = _chosen(run)
        write_document(run.store, run.keys.warm_start, warm)
    if run.job.phases.head.warm_start:
        emit(Announced(warm.reason))
    return warm


def plan_in_use(job: Job, run: str | None, store: Store, *, base: ResolvedBase, snapshot: Snapshot) -> Plan | None:
    """The plan of the model in use, where this run can use it and read its stored features; else None."""
    model = _in_use(job, run, store)
    if model is None or _stored_as(model.job) != _stored_as(job) or model.base != base:
        return None
    return model.plan if fits(job, model.plan, snapshot) else None


def _chosen(run: Run) -> WarmStart:
    job = run.job
    if not job.phases.head.warm_start:
        return WarmStart(None, "phases.head.warm_start: false")
    model = _in_use(job, run.id, run.store)
    if model is None:
        return WarmStart(None, "no model is in use to start the head from")
    same = model.job.model == job.model and model.job.train.precision == job.train.precision
    if not same or model.base != run.base:
        return WarmStart(None, f"the head of {model.run} has other layers, or stands on another base: it starts afresh")
    fresh = [label for label in run.snapshot.classes if label not in model.classes]
    fresh_note = f"; new classes start afresh: {', '.join(fresh)}" if fresh else ""
    fine_tunes_warm = job.phases.fine_tune is not None and job.phases.fine_tune.warm_epochs is not None
    hindrance = _hindrance(job, model) if fine_tunes_warm else None
    tuned = fine_tunes_warm and hindrance is None
    what = "the head and the thawed layers start from those" if tuned else "the head starts from that"
    why = f"; fine-tuning starts from the pretrained layers, since {hindrance}" if hindrance else ""
    source = WarmSource(model.run, model.classes, fine_tuned=tuned)
    return WarmStart(source, f"{what} of {model.run}{why}{fresh_note}")


def _hindrance(job: Job, model: ChampionModel) -> str | None:
    """The reason why fine-tuning can't start from the model's thawed layers; None where it can."""
    ours, theirs = job.phases.fine_tune, model.job.phases.fine_tune
    if job.model.backbone == GLOVE:
        return "other texts have other words"
    if model.kept != "fine_tune":
        return "that run kept its head alone"
    return None if ours and theirs and ours.unfreeze == theirs.unfreeze else "that run thawed other layers"


def _in_use(job: Job, run: str | None, store: Store) -> ChampionModel | None:
    current = read_current(store, job.name)
    if current is None or current.run == run:
        return None
    try:
        return load_model(store, current.run)
    except ObjectMissing:
        return None


def _stored_as(job: Job) -> dict[str, Any]:
    """The settings of a job that decide which tensors it stores, and how."""
    fine_tune, train = job.phases.fine_tune, job.train
    return {
        "model": job.model.model_dump(exclude={"head"}),
        "unfreeze": fine_tune and fine_tune.unfreeze.model_dump(),
        "augment": job.augment.model_dump(),
        "train": train.model_dump(include={"precision", "views", "cache", "cache_limit", "cache_dtype"}),
    }
