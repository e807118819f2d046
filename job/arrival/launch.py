"""Decides once whether to train on the data in the bucket: creates the RayJob, or gives the reason why not."""

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
from job.deploy.stages import exit_code
from job.deploy.submit import apply
from job.model.resolved import known_base, weights_request
from job.registry.retrain_policy import decide, record, recorded
from job.run.child import run_thaw
from job.run.events import Emit
from job.storage import open_store

LOOK = 5.0
"""Seconds between checks for the end of a RayJob."""
CREATED, EXISTS, FINISHED, TOO_FEW, NOT_WORTH_IT, DEFERRED = (
    "created", "exists", "finished", "too_few", "not_worth_it", "deferred",
)  # fmt: skip


@dataclass(frozen=True)
class Launched:
    """The decision on a snapshot, and the reason. All outcomes but DEFERRED are final for the snapshot."""

    outcome: str
    name: str | None = None
    """The name of the RayJob; with DEFERRED, of the one that has to end first."""
    run: str | None = None
    snapshot: str | None = None
    examples: int | None = None
    new_examples: int | None = None
    """The number of new examples since the current model's snapshot, where these were compared."""
    reason: str | None = None


def launch(
    target: Target, emit: Emit, first_event: float | None = None, *, over: threading.Event | None = None
) -> Launched:
    """1. snapshot and name   2. is it finished, or there   3. is a run active   4. is it worth it   5. the RayJob.

    Before all that, the cluster is asked whether it can have RayJobs: listing a bucket takes minutes.

    The process may be killed after each step: doing everything again has the same result. `first_event` is in seconds
    since the epoch; `over` ends the wait for the end of a cancelled RayJob. Raises ThawError.
    """
    target.api.check()
    prepare_weights(target.job)
    naming = name_run(target.job, emit)
    launched = _undecided(naming)
    if naming.finished is not None:
        return replace(launched, outcome=FINISHED)
    name = kube_name(naming.id)
    rayjobs = _rayjobs(target.api, target.job)
    if name not in rayjobs:
        active = [other for other, rayjob in rayjobs.items() if is_active(rayjob)]
        launched = _weighed(target, naming, launched, active=active)
        if launched.outcome:
            return launched
        for other in active:
            if not _cancel(target.api, other, over or threading.Event()):
                return replace(launched, outcome=DEFERRED, name=other, reason=f"{other} is being deleted")
    configmap, rayjob = fill(
        target.job, naming, target.shipped, image=target.options.image, namespace=target.api.namespace
    )
    if first_event is not None:
        at = datetime.fromtimestamp(first_event, UTC).isoformat(timespec="milliseconds")
        rayjob["metadata"]["annotations"][FIRST_EVENT] = at
    created, fresh = apply(target.api, configmap, rayjob, emit=emit)  # also where it exists: it may be incomplete
    if not fresh:
        launched = replace(launched, reason=f"it is {created.get('status', {}).get('jobDeploymentStatus') or 'New'}")
    return replace(launched, outcome=CREATED if fresh else EXISTS, name=created["metadata"]["name"])


def is_active(rayjob: Object | None) -> bool:
    """Whether pods of the RayJob may be at work."""
    return rayjob is not None and exit_code(rayjob) is None


def prepare_weights(job: Job) -> None:
    """Puts the pretrained weights into the store where it lacks them, since the name of a run depends on them.

    That takes TensorFlow, so it is done in a child process, whose memory is freed at its end. Raises ThawError.
    """
    if known_base(open_store(job.store, job.storage), weights_request(job.model, job.train.seed)) is not None:
        return
    run_thaw("prepare", job)


def _weighed(target: Target, naming: Naming, launched: Launched, *, active: list[str]) -> Launched:
    """The decision, with an outcome where no RayJob is to be created now."""
    if active and target.concurrency == "queue":
        return replace(launched, outcome=DEFERRED, name=active[0], reason=f"{active[0]} is active")
    if naming.snapshot is None or naming.run is None:  # packed, and not indexed so far: the run finds out
        return launched
    store = open_store(target.job.store, target.job.storage)
    decision, outcome = decide(target.job, store, naming.snapshot), NOT_WORTH_IT
    before = recorded(store, naming.run)
    if decision.train is None and before and before.train is False and before.current == decision.current:
        decision = before  # an earlier attempt has compared the features
    if decision.new_examples < target.min_new:
        outcome, reason = TOO_FEW, f"{decision.new_examples} new examples, and min_new is {target.min_new}"
        decision = replace(decision, train=False, reason=reason)
    launched = replace(launched, new_examples=decision.new_examples, reason=decision.reason)
    if decision.train is not False:
        return launched
    record(store, naming.run, decision)
    return replace(launched, outcome=outcome)


def _rayjobs(api: Api, job: Job) -> dict[str, Object]:
    """All RayJobs of this job, by name."""
    rayjobs = api.list(RAYJOBS, label_selector=f"{JOB}={job.name}").items
    return {rayjob["metadata"]["name"]: rayjob for rayjob in rayjobs}


def _cancel(api: Api, name: str, over: threading.Event) -> bool:
    """Deletes a RayJob, whose pods keep a checkpoint first. Returns whether it is gone; not where `over` was set."""
    api.delete(RAYJOBS, name)
    while api.get(RAYJOBS, name) is not None:
        if over.wait(LOOK):
            return False
    return True


def _undecided(naming: Naming) -> Launched:
    if naming.snapshot is None:
        return Launched("", run=naming.run)
    return Launched("", run=naming.run, snapshot=naming.snapshot.id, examples=naming.snapshot.examples)


def describe_launched(done: Launched, namespace: str) -> list[str]:
    """The decision in words, for the terminal."""
    lines = {
        CREATED: f"RayJob {done.name} was created (namespace {namespace}).",
        EXISTS: f"RayJob {done.name} has this data already: {done.reason} (namespace {namespace}).",
        FINISHED: f"Run {done.run} has this data already, and is finished: nothing was created.",
        TOO_FEW: f"Nothing was created: {done.reason}.",
        NOT_WORTH_IT: f"Nothing was created: {done.reason}.",
        DEFERRED: f"Nothing was created: {done.reason}: trigger again when it has ended, or with --replace.",
    }
    return [lines[done.outcome]]
