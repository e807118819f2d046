"""`thaw status` and `thaw cancel`: of a run in its store, or of a RayJob in the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from job.deploy.annotations import RUN, STORE, progress_line
from job.deploy.api import EVENTS, PODS, RAYJOBS, Api, Object, connect
from job.deploy.manifest import INSTANCE, NAMESPACE
from job.deploy.patience import Patience
from job.deploy.pods import problems
from job.deploy.refusals import Unreachable
from job.deploy.stages import DELETED, ENDED, exit_code, failures, meaning, stage_of, why_failed
from job.errors import AccessDenied, JobError, ObjectMissing, StorageError
from job.run.events import Event
from job.run.lease import cancel
from job.run.run import open_run
from job.storage.run_keys import run_uri
from job.telemetry.status import RunStatus, describe_run, run_status
from job.wording import plural

INTERVAL = 5.0
"""Seconds between two looks at a status that is watched."""
OVER = ENDED | {DELETED, "finished", "ended", "not worth it"}
HARMLESS = "FailedToDelete"
"""The begin of events that are no problem: what KubeRay could not delete was gone already, or it tries again."""


@dataclass(frozen=True)
class RayJobStatus:
    rayjob: str
    namespace: str
    state: str
    """KubeRay's `jobDeploymentStatus`, or what `stages` has in its place."""
    meaning: str | None
    """The state in words; None where it has ended, or works."""
    exit_code: int | None
    """None while it has not ended."""
    reason: str | None
    """The reason why it has failed, or its last attempt that KubeRay tries again; else None."""
    failed: int
    """The number of attempts that have failed."""
    run: str | None
    """The URI of the run, once it is known."""
    progress: dict[str, str]
    """The annotations `thaw/…`, by their names without the prefix."""
    pods: dict[str, str]
    """The phase of each pod, by its name."""
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status_of(
    name: str, *, context: str | None, namespace: str | None, watch: bool
) -> tuple[RunStatus | RayJobStatus, list[str]]:
    """The status of a run or of a RayJob, and the lines that tell it."""
    return _looking(name, context=context, namespace=namespace, watch=watch)()


def _looking(
    name: str, *, context: str | None, namespace: str | None, watch: bool
) -> Callable[[], tuple[RunStatus | RayJobStatus, list[str]]]:
    """A function that looks, again and again with the same connection."""
    if _is_rayjob(name):
        api = connect(context, namespace or NAMESPACE)
        return lambda: _described(rayjob_status(api, name))
    store, run = open_run(name)

    def look() -> tuple[RunStatus, list[str]]:
        status = run_status(store, run, watch)
        return status, describe_run(status)

    return look


def _described(status: RayJobStatus) -> tuple[RayJobStatus, list[str]]:
    return status, describe_rayjob(status)


def watch_status(
    name: str, show: Callable[[list[str]], None], *, context: str | None, namespace: str | None
) -> RunStatus | RayJobStatus:
    """Shows the status again and again, until nobody works on it any more; returns the last one.

    Once there is one, it waits for a server or a store that is away, and says so.
    """
    look = _looking(name, context=context, namespace=namespace, watch=True)
    status, lines = look()

    def say(event: Event) -> None:
        show([*lines, "", str(getattr(event, "text", ""))])

    patience = Patience(say)
    while True:
        show(lines)
        if status.state in OVER:
            return status
        time.sleep(INTERVAL)
        try:
            status, lines = look()
            patience.heard()
        except (ObjectMissing, AccessDenied):
            raise
        except (Unreachable, StorageError) as error:
            patience.missed(error)
        except JobError:
            if not isinstance(status, RayJobStatus):
                raise
            status, lines = _described(replace(status, state=DELETED, meaning="it is gone", pods={}, problems=[]))


def cancel_either(name: str, context: str | None, namespace: str | None) -> str:
    """Ends a run or a RayJob, and returns what to tell."""
    if _is_rayjob(name):
        return cancel_rayjob(connect(context, namespace or NAMESPACE), name)
    store, run = open_run(name)
    state = cancel(store, run)
    return (
        f"Attempt {state.attempt} of {run_uri(store, run)} is asked to end: within seconds it keeps a "
        "checkpoint, and running again goes on from it."
    )


def rayjob_status(api: Api, name: str) -> RayJobStatus:
    """Raises JobError where there is no such RayJob."""
    rayjob = api.get(RAYJOBS, name)
    if rayjob is None:
        raise _no_rayjob(api, name)
    state, annotations = stage_of(rayjob), rayjob["metadata"].get("annotations", {})
    cluster = rayjob.get("status", {}).get("rayClusterName")
    pods = api.list(PODS, label_selector=f"{INSTANCE}={name}").items
    if not pods and cluster:  # of one that was made on a schedule, whose pods don't have its name
        pods = api.list(PODS, label_selector=f"ray.io/cluster={cluster}").items
    problem_texts = dict(problem for pod in pods for problem in problems(pod))
    run = f"{annotations[STORE].rstrip('/')}/runs/{annotations[RUN]}/" if RUN in annotations else None
    return RayJobStatus(
        rayjob=name,
        namespace=api.namespace,
        state=state,
        meaning=None if state in ENDED | {"Running"} else meaning(rayjob),
        exit_code=exit_code(rayjob),
        reason=why_failed(rayjob) or None,
        failed=failures(rayjob),
        run=run,
        progress={name.removeprefix("thaw/"): text for name, text in annotations.items() if name.startswith("thaw/")},
        pods={pod["metadata"]["name"]: pod.get("status", {}).get("phase", "Unknown") for pod in pods},
        problems=[*problem_texts.values(), *_warnings(api, [name, cluster])],
    )


def describe_rayjob(status: RayJobStatus) -> list[str]:
    lines = [f"rayjob      {status.rayjob} (namespace {status.namespace})", f"state       {status.state}"]
    if status.exit_code:
        lines[-1] += f" (exit code {status.exit_code})"
    elif status.meaning:
        lines[-1] += f": {status.meaning}"
    if status.failed:
        lines.append(f"failed      {plural(status.failed, 'attempt')}")
    if status.run:
        lines.append(f"run         {status.run}")
    progress = progress_line({f"thaw/{name}": text for name, text in status.progress.items()})
    if progress:
        lines.append(f"progress    {progress.strip()}")
    if status.reason:
        lines.append(f"reason      {status.reason}")
    lines += [f"pod         {name}: {phase}" for name, phase in status.pods.items()]
    return [*lines, *(f"problem     {text}" for text in status.problems)]


def cancel_rayjob(api: Api, name: str) -> str:
    """Deletes it, and returns what to tell. Raises JobError where there is none."""
    if not api.delete(RAYJOBS, name):
        raise _no_rayjob(api, name)
    return (
        f"RayJob {name} is being deleted. Its pods keep a checkpoint before they end; submitting again goes on from it."
    )


def _is_rayjob(name: str) -> bool:
    """A RayJob's name has no slash, and a run's URI or folder has."""
    return "/" not in name


def _warnings(api: Api, names: list[str | None]) -> list[str]:
    """What KubeRay could not do, as the cluster's events tell: the latest of each kind."""
    latest: dict[str, Object] = {}
    for name in filter(None, names):
        warnings = api.list(EVENTS, field_selector=f"involvedObject.name={name},type=Warning").items
        latest |= {event["reason"]: event for event in warnings if not event["reason"].startswith(HARMLESS)}
    return [f"{reason}: {' '.join(event.get('message', '').split())}" for reason, event in latest.items()]


def _no_rayjob(api: Api, name: str) -> JobError:
    return JobError(
        f"There is no RayJob {name} in namespace {api.namespace}: `kubectl -n {api.namespace} get rayjobs` lists them; "
        "a run is also found by its URI, s3://…/runs/<id>/."
    )
