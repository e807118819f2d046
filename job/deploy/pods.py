"""What keeps a pod from working, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from job.deploy.api import Object

PULL = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CREATE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
DISRUPTIONS = {
    "PreemptionByScheduler": "it made room for a pod of a higher priority",
    "DeletionByTaintManager": "its node was tainted (a spot node that is taken back, or one that does not answer)",
    "EvictionByEvictionAPI": "its node is drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node shuts down, or is short of memory or disk",
}


class Problem(NamedTuple):
    key: str
    """What tells it from others."""
    text: str


def problems(pod: Object) -> Iterator[Problem]:
    """The problems that the pod has now, or had before."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        yield _unscheduled(pod, scheduled.get("message", ""))
    disrupted = conditions.get("DisruptionTarget", {})
    if disrupted.get("status") == "True":
        why = DISRUPTIONS.get(disrupted.get("reason", ""), disrupted.get("message", ""))
        yield Problem(f"disrupted {name}", f"{name} was evicted: {why}. What it had not saved is done again.")
    elif status.get("reason") == "Evicted":
        yield Problem(f"disrupted {name}", f"{name} was evicted: {_line(status.get('message', ''))}")
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind, []):
            yield from _of_container(pod, container)


def _unscheduled(pod: Object, message: str) -> Problem:
    """Pods of one group lack the same: it is said for one of them."""
    who = _group(pod)
    if "PersistentVolumeClaim" in message or "persistentvolumeclaim" in message:
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in _claims(pod)]
        text = f"{who} waits for its volume: the claim {', '.join(claims)} is not bound (kubectl describe pvc)"
        return Problem(f"claim {who}", f"{text}: {_line(message)}")
    lacking = sorted({name.rstrip(".,") for name in re.findall(r"Insufficient ([\w./-]+)", message)})
    why = f"no node has enough {' and '.join(lacking)} left" if lacking else "no node takes it"
    return Problem(
        f"unschedulable {who} {lacking}", f"{who} waits for a node: {why}. The scheduler says: {_line(message)}"
    )


def _of_container(pod: Object, container: dict[str, Any]) -> Iterator[Problem]:
    pod_name, name = pod["metadata"]["name"], container["name"]
    waiting = container.get("state", {}).get("waiting") or {}
    ended = [container.get(state, {}).get("terminated") or {} for state in ("state", "lastState")]
    reason, message = waiting.get("reason", ""), _line(waiting.get("message", ""))
    if reason in PULL:
        image = container.get("image", "")
        text = f"{pod_name}: the image {image} can't be pulled: {message or reason}"
        yield Problem(f"pull {image}", f"{text}. Check its name, and that the nodes may read the registry.")
    elif reason in CREATE:
        yield Problem(
            f"create {pod_name} {name}", f"{pod_name}: the container {name} can't be started: {message or reason}"
        )
    elif reason == "CrashLoopBackOff":
        code = ended[1].get("exitCode", "unknown")
        text = f"{pod_name}: the container {name} ends again and again (exit code {code})"
        yield Problem(f"crash {pod_name} {name}", f"{text}: kubectl logs {pod_name} -c {name} --previous")
    if any(state.get("reason") == "OOMKilled" for state in ended):
        text = f"{pod_name}: the container {name} was killed for want of memory (its limit: {_limit(pod, name)})"
        yield Problem(
            f"memory {pod_name} {name}", f"{text}: raise the limit in the overlay, or lower train.batch_size."
        )


def _group(pod: Object) -> str:
    labels = pod["metadata"].get("labels", {})
    kind = labels.get("ray.io/node-type", "")
    return {"head": "the head", "worker": f"a worker (group {labels.get('ray.io/group', '?')})"}.get(
        kind, pod["metadata"]["name"]
    )


def _claims(pod: Object) -> list[dict[str, Any]]:
    return [volume for volume in pod.get("spec", {}).get("volumes", []) if "persistentVolumeClaim" in volume]


def _limit(pod: Object, name: str) -> str:
    for container in pod.get("spec", {}).get("containers", []):
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "none"))
    return "unknown"


def _line(text: str) -> str:
    return " ".join(text.split())
