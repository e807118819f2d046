"""`thaw status` and `thaw cancel`: of a run in its store, or of a RayJob in the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from job.deploy.api import connect
from job.deploy.manifest import NAMESPACE
from job.deploy.status import ENDED, cancel_rayjob, describe_rayjob, rayjob_status
from job.run.lease import cancel
from job.run.run import open_run
from job.storage.runs import run_uri
from job.telemetry.status import describe_run, run_status

INTERVAL = 5.0
"""Seconds between two looks at a status that is watched."""
OVER = ENDED | {"finished", "ended", "not worth it"}


def is_rayjob(name: str) -> bool:
    """A RayJob's name has no slash, and a run's URI or folder has."""
    return "/" not in name


def status_of(
    name: str, *, context: str | None, namespace: str | None, watch: bool
) -> tuple[dict[str, Any], list[str]]:
    """The status of either, and its lines."""
    if is_rayjob(name):
        found = rayjob_status(connect(context, namespace or NAMESPACE), name)
        return found, describe_rayjob(found)
    status = run_status(*open_run(name), watch)
    return status, describe_run(status)


def watch_status(
    name: str, show: Callable[[list[str]], None], *, context: str | None, namespace: str | None
) -> dict[str, Any]:
    """Shows the status again and again, until nobody works on it any more; returns the last one."""
    while True:
        found, lines = status_of(name, context=context, namespace=namespace, watch=True)
        show(lines)
        if found["state"] in OVER:
            return found
        time.sleep(INTERVAL)


def cancel_either(name: str, context: str | None, namespace: str | None) -> str:
    """Ends either, and returns what to tell."""
    if is_rayjob(name):
        return cancel_rayjob(connect(context, namespace or NAMESPACE), name)
    store, run = open_run(name)
    state = cancel(store, run)
    return (
        f"Attempt {state['attempt']} of {run_uri(store, run)} is asked to end: within seconds it keeps a "
        "checkpoint, and running again goes on from it."
    )
