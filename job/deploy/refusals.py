"""What the Kubernetes API server's refusals mean, and what to do about each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from job.errors import ClusterError
from job.wording import sentence

if TYPE_CHECKING:
    from kubernetes.client import ApiException

    from job.deploy.api import Resource


class Role(NamedTuple):
    """Who asks, and what a hint tells them to do: commands that they may use."""

    binding: str
    """What gives them their rights."""
    identity: str
    """What lets the API server know who they are."""
    looking: str
    """How they see whether the server can be reached; `{namespace}` is in it."""


SUBMITTER = Role(
    "bind the role thaw-submit (k8s/base/access.yaml) to your user",
    "log in",
    "check that the cluster can be reached (kubectl -n {namespace} get rayjobs), then try again",
)
WATCHER = Role(
    "bind the role thaw-watch (k8s/components/watch/access.yaml) to the watcher's service account, or to your user",
    "the watcher's pod needs its service account's token (automountServiceAccountToken), and you have to log in",
    "check that the cluster can be reached (kubectl -n {namespace} get rayjobs); of a watcher's pod, that its "
    "NetworkPolicy allows the server's port",
)
RUN = Role(
    "bind the role thaw-run (k8s/base/access.yaml) to the service account of the head's pod",
    "the head's pod needs its service account's token (automountServiceAccountToken)",
    "check that the NetworkPolicy of the head's pod in namespace {namespace} allows the server's port (443, 6443)",
)


class Conflict(ClusterError):
    """The object is there already."""


class Missing(ClusterError):
    """There is no such object."""


class Gone(ClusterError):
    """A watch can't go on from that version any more: list again."""


class Unreachable(ClusterError):
    """What may pass did not pass in time."""


class NotAllowed(ClusterError):
    """The API server does not know who asks, or that they may."""


class NoLongerAllowed(Unreachable):
    """As NotAllowed, of what was allowed before: a server that is starting refuses all until it knows its roles."""


def refusal(error: ApiException, verb: str, resource: Resource, *, namespace: str, role: Role) -> ClusterError:
    what, says = f"{verb} {resource.plural} in namespace {namespace}", told(error)
    if error.status == 401:
        text = f"Not allowed to {what}: the API server does not know who asks: {role.identity}, and {role.binding}."
        return NotAllowed(text)
    if error.status == 403:
        return NotAllowed(f"Not allowed to {what}: {role.binding}. The API server says: {sentence(says)}")
    if error.status == 404:
        return _not_found(error, what, resource, namespace=namespace)
    if error.status == 409:
        return Conflict(f"Can't {what}: {sentence(says)}")
    if error.status == 410:
        return Gone(says)
    return ClusterError(f"The API server refuses to {what}: {says} ({error.status}).")


def told(error: ApiException) -> str:
    """The answer's message, in one line."""
    return one_line(_status(error).get("message") or error.body or error.reason or "no reason given")


def one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _not_found(error: ApiException, what: str, resource: Resource, *, namespace: str) -> ClusterError:
    """An object, its namespace, or the whole API, which answers without naming an object."""
    details = _status(error).get("details") or {}
    if details.get("kind") == "namespaces":
        return ClusterError(f"There is no namespace {namespace}: `kubectl apply -k` the overlay first, which makes it.")
    if resource.group and not details.get("name"):
        return ClusterError(f"Can't {what}: KubeRay is not installed in this cluster: see k8s/platform/.")
    return Missing(f"Can't {what}: there is none of that name.")


def _status(error: ApiException) -> dict[str, Any]:
    """The object of the kind Status in the answer; empty where there is none."""
    try:
        document = json.loads(error.body or "")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
