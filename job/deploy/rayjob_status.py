"""`thaw status` and `thaw cancel`: of a run in its store, or of a RayJob in the cluster."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from job.deploy.annotations import RUN, STORE, ending, progress_line
from job.deploy.api import EVENTS, PODS, RAYJOBS, Api, Object, connect
from job.deploy.manifest import INSTANCE, NAMESPACE
from job.deploy.pods import problems
from job.errors import ClusterError, JobError
from job.run.lease import cancel
from job.run.run import open_run
from job.storage.run_keys import run_uri
from job.telemetry.status import RunStatus, describe_run, run_status

INTERVAL = 5.0
"""Seconds between two looks at a status that is watched."""
ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
OVER = ENDED | {"finished", "ended", "not worth it"}
LONGEST = 300
"""Characters of a reason."""


@dataclass(frozen=True)
class RayJobStatus:
    rayjob: str
    namespace: str
    state: str
    """KubeRay's `jobDeploymentStatus`."""
    exit_code: int | None
    """None while it has not ended."""
    reason: str | None
    """The reason why it has failed."""
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
    if _is_rayjob(name):
        rayjob = rayjob_status(connect(context, namespace or NAMESPACE), name)
        return rayjob, describe_rayjob(rayjob)
    status = run_status(*open_run(name), watch)
    return status, describe_run(status)


def watch_status(
    name: str, show: Callable[[list[str]], None], *, context: str | None, namespace: str | None
) -> RunStatus | RayJobStatus:
    """Shows the status again and again, until nobody works on it any more; returns the last one."""
    while True:
        status, lines = status_of(name, context=context, namespace=namespace, watch=True)
        show(lines)
        if status.state in OVER:
            return status
        time.sleep(INTERVAL)


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
    status, annotations = rayjob.get("status", {}), rayjob["metadata"].get("annotations", {})
    pods = api.list(PODS, label_selector=f"{INSTANCE}={name}").items
    problem_texts = dict(problem for pod in pods for problem in problems(pod))
    run = f"{annotations[STORE].rstrip('/')}/runs/{annotations[RUN]}/" if RUN in annotations else None
    return RayJobStatus(
        rayjob=name,
        namespace=api.namespace,
        state=status.get("jobDeploymentStatus") or "New",
        exit_code=exit_code(rayjob),
        reason=ending(rayjob)[1] or reason(status) or None,
        failed=int(status.get("failed") or 0),
        run=run,
        progress={name.removeprefix("thaw/"): text for name, text in annotations.items() if name.startswith("thaw/")},
        pods={pod["metadata"]["name"]: pod.get("status", {}).get("phase", "Unknown") for pod in pods},
        problems=[*problem_texts.values(), *_warnings(api, [name, status.get("rayClusterName")])],
    )


def describe_rayjob(status: RayJobStatus) -> list[str]:
    lines = [f"rayjob      {status.rayjob} (namespace {status.namespace})", f"state       {status.state}"]
    if status.exit_code:
        lines[-1] += f" (exit code {status.exit_code})"
    if status.failed:
        lines.append(f"failed      {status.failed} attempts")
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


def exit_code(rayjob: Object) -> int | None:
    """The exit code of a RayJob that has ended, else None."""
    status = rayjob.get("status", {})
    stage = status.get("jobDeploymentStatus", "")
    if stage not in ENDED:
        return None
    if stage == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        return 0
    in_message = re.search(r"exit code:? (\d+)", status.get("message", ""))
    for text in (ending(rayjob)[0], in_message[1] if in_message else ""):
        if text.isdigit() and int(text):
            return int(text)
    return ClusterError.exit_code


def reason(status: dict[str, Any]) -> str:
    """What KubeRay says of a failure, without the logs that it may put behind it."""
    text = status.get("message") or status.get("reason") or ""
    return " ".join(text.partition(", last available logs")[0].split())[:LONGEST]


def _is_rayjob(name: str) -> bool:
    """A RayJob's name has no slash, and a run's URI or folder has."""
    return "/" not in name


def _warnings(api: Api, names: list[str | None]) -> list[str]:
    """What KubeRay could not do, as the cluster's events tell: the latest of each kind."""
    latest: dict[str, Object] = {}
    for name in filter(None, names):
        warnings = api.list(EVENTS, field_selector=f"involvedObject.name={name},type=Warning").items
        latest |= {event["reason"]: event for event in warnings}
    return [f"{reason}: {' '.join(event.get('message', '').split())}" for reason, event in latest.items()]


def _no_rayjob(api: Api, name: str) -> JobError:
    return JobError(
        f"There is no RayJob {name} in namespace {api.namespace}: `kubectl get rayjob -A` lists all; a run is also "
        "found by its URI, s3://…/runs/<id>/."
    )
