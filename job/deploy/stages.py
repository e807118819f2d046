"""What a RayJob is at: KubeRay's `jobDeploymentStatus`, and what that does not say."""

from __future__ import annotations

import re
from typing import Any

from job.deploy.annotations import ending
from job.deploy.api import Object
from job.errors import ClusterError

ENDED = frozenset({"Complete", "Failed", "ValidationFailed"})
NEW, RETRYING, SUSPENDED, DELETING, DELETED = "New", "Retrying", "Suspended", "Deleting", "Deleted"
MEANINGS = {
    NEW: "KubeRay has not seen it yet",
    "Waiting": "it waits for KubeRay",
    "Initializing": "its cluster is made",
    "Running": "its cluster is up, and the job begins",
    "Suspending": "it is suspended: its cluster ends",
    RETRYING: "a new cluster is made, which goes on with the run",
    DELETING: "it is being deleted: its pods keep a checkpoint before they end",
}
QUEUE = "kueue.x-k8s.io/queue-name"
LONGEST = 300
"""Characters of a reason."""


def stage_of(rayjob: Object) -> str:
    """KubeRay's word for it, but where that is none: `New`, `Retrying` or `Deleting`.

    KubeRay empties the status for another attempt, and no longer writes one on what is being deleted.
    """
    if "deletionTimestamp" in rayjob["metadata"]:
        return DELETING
    status = rayjob.get("status", {})
    stage: str = status.get("jobDeploymentStatus") or NEW
    return RETRYING if stage == NEW and failures(rayjob) else stage


def meaning(rayjob: Object) -> str:
    """The stage in words."""
    stage = stage_of(rayjob)
    if stage == SUSPENDED:
        metadata = rayjob["metadata"]
        if QUEUE in metadata.get("labels", {}):
            return f"it waits in a queue (`kubectl -n {metadata['namespace']} get workloads` says what for)"
        return "it is suspended (spec.suspend), until somebody resumes it"
    return MEANINGS.get(stage, f"KubeRay says: {stage}")


def failures(rayjob: Object) -> int:
    """The number of attempts that have failed."""
    return int(rayjob.get("status", {}).get("failed") or 0)


def why_failed(rayjob: Object) -> str:
    """What the last attempt left, or else what KubeRay says of its failure; empty where there is nothing to say.

    Of a healthy one there is nothing, though KubeRay's message says that it is.
    """
    if not exit_code(rayjob) and rayjob.get("status", {}).get("jobDeploymentStatus") != RETRYING:
        return ""
    return ending(rayjob)[1] or _told(rayjob.get("status", {}))


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


def _told(status: dict[str, Any]) -> str:
    """What KubeRay says, without the logs that it may put behind it."""
    text = status.get("message") or status.get("reason") or ""
    return " ".join(text.partition(", last available logs")[0].split())[:LONGEST]
