"""Whether what lies in the bucket is to be trained on, decided once: the RayJob, or the reason why there is none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from job.arrival.targets import Target
from job.config import Job
from job.deploy.annotations import FIRST_EVENT
from job.deploy.api import RAYJOBS, Api, Object
from job.deploy.manifest import JOB, fill, kube_name
from job.deploy.naming import Naming, name_run
from job.deploy.status import exit_code
from job.deploy.submit import apply
from job.model.resolved import known_base, weights_request
from job.registry.retrain_policy import decide, record, recorded
from job.run.child import run_thaw
from job.run.events import Emit
from job.storage import open_store

LOOK = 5.0
"""Seconds between looks at whether a RayJob has ended."""
CREATED, EXISTS, FINISHED, TOO_FEW, NOT_WORTH_IT, DEFERRED = (
    "created", "exists", "finished", "too_few", "not_worth_it", "deferred",
)  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """What was decided on a snapshot, and why. All but DEFERRED is settled: the snapshot needs nothing more."""

    outcome: str
    name: str | None = None
    """The RayJob; of DEFERRED, the one that is waited for."""
    run: str | None = None
    snapshot: str | None = None
    examples: int | None = None
    new_examples: int | None = None
    """Since the current model's snapshot, where it was compared."""
    reason: str | None = None


def launch(
    target: Target, emit: Emit, first_event: float | None = None, over: threading.Event | None = None
) -> Launched:
    """1. snapshot and name   2. is it finished, or there   3. is a run active   4. is it worth it   5. the RayJob.

    Each step may be the last one of this process: doing it all again ends the same. `first_event` is in seconds since
    the epoch; `over` ends waiting for a cancelled RayJob's end. Raises ThawError.
    """
    prepare_weights(target.job)
    naming = name_run(target.job, emit)
    told = _told(naming)
    if naming.result is not None:
        return replace(told, outcome=FINISHED)
    name = kube_name(naming.id)
    rayjobs = _rayjobs(target.api, target.job)
    if name not in rayjobs:
        active = [other for other, rayjob in rayjobs.items() if is_active(rayjob)]
        told = _weighed(target, naming, told, active)
        if told.outcome:
            return told
        for other in active:
            if not _cancel(target.api, other, over or threading.Event()):
                return replace(told, outcome=DEFERRED, name=other, reason=f"{other} is being deleted")
    configmap, rayjob = fill(
        target.job, naming, target.shipped, image=target.options.image, namespace=target.api.namespace
    )
    if first_event is not None:
        at = datetime.fromtimestamp(first_event, UTC).isoformat(timespec="milliseconds")
        rayjob["metadata"]["annotations"][FIRST_EVENT] = at
    made, fresh = apply(target.api, configmap, rayjob, emit=emit)  # of one that is there, too: it may be half made
    if not fresh:
        told = replace(told, reason=f"it is {made.get('status', {}).get('jobDeploymentStatus') or 'New'}")
    return replace(told, outcome=CREATED if fresh else EXISTS, name=made["metadata"]["name"])


def is_active(rayjob: Object | None) -> bool:
    """Whether pods may be at work for it."""
    return rayjob is not None and exit_code(rayjob) is None


def prepare_weights(job: Job) -> None:
    """Has the pretrained weights put into the store where it does not have them, since they are part of a run's name.

    That takes TensorFlow, so it is done by a process of its own, whose memory goes when it ends. Raises ThawError.
    """
    if known_base(open_store(job.store, job.storage), weights_request(job.model, job.train.seed)) is not None:
        return
    run_thaw("prepare", job)


def _weighed(target: Target, naming: Naming, told: Launched, active: list[str]) -> Launched:
    """With an outcome where no RayJob is to be made now."""
    if active and target.concurrency == "queue":
        return replace(told, outcome=DEFERRED, name=active[0], reason=f"{active[0]} is active")
    if naming.snapshot is None or naming.run is None:  # packed, and not indexed so far: the run finds out
        return told
    store = open_store(target.job.store, target.job.storage)
    decision, outcome = decide(target.job, store, naming.snapshot), NOT_WORTH_IT
    before = recorded(store, naming.run)
    if decision.train is None and before and before.train is False and before.current == decision.current:
        decision = before  # an earlier run of this has looked at the features
    if decision.new_examples < target.min_new:
        outcome, reason = TOO_FEW, f"{decision.new_examples} new examples, and min_new is {target.min_new}"
        decision = replace(decision, train=False, reason=reason)
    told = replace(told, new_examples=decision.new_examples, reason=decision.reason)
    if decision.train is not False:
        return told
    record(store, naming.run, decision)
    return replace(told, outcome=outcome)


def _rayjobs(api: Api, job: Job) -> dict[str, Object]:
    """All of this job, by name."""
    rayjobs = api.list(RAYJOBS, label_selector=f"{JOB}={job.name}").items
    return {rayjob["metadata"]["name"]: rayjob for rayjob in rayjobs}


def _cancel(api: Api, name: str, over: threading.Event) -> bool:
    """Whether it is gone: its pods keep a checkpoint first."""
    api.delete(RAYJOBS, name)
    while api.get(RAYJOBS, name) is not None:
        if over.wait(LOOK):
            return False
    return True


def _told(naming: Naming) -> Launched:
    if naming.snapshot is None:
        return Launched("", run=naming.run)
    return Launched("", run=naming.run, snapshot=naming.snapshot.id, examples=naming.snapshot.examples)


def describe_launched(done: Launched, namespace: str) -> list[str]:
    """For a person."""
    lines = {
        CREATED: f"RayJob {done.name} was created (namespace {namespace}).",
        EXISTS: f"RayJob {done.name} has this data already: {done.reason} (namespace {namespace}).",
        FINISHED: f"Run {done.run} has this data already, and is finished: nothing was created.",
        TOO_FEW: f"Nothing was created: {done.reason}.",
        NOT_WORTH_IT: f"Nothing was created: {done.reason}.",
        DEFERRED: f"Nothing was created: {done.reason}: trigger again when it has ended, or with --replace.",
    }
    return [lines[done.outcome]]
