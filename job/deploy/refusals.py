"""What the Kubernetes API server's refusals mean, and what to do about each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from job.errors import ClusterError

if TYPE_CHECKING:
    from kubernetes.client import ApiException

    from job.deploy.api import Resource

BINDING = "bind the role thaw-submit (k8s/base/access.yaml) to your user"


class Conflict(ClusterError):
    """The object is there already."""


class Missing(ClusterError):
    """There is no such object."""


class Gone(ClusterError):
    """A watch can't go on from that version any more: list again."""


class Unreachable(ClusterError):
    """What may pass did not pass in time."""


def refusal(error: ApiException, verb: str, resource: Resource, *, namespace: str) -> ClusterError:
    what, says = f"{verb} {resource.plural} in namespace {namespace}", told(error)
    if error.status == 401:
        return ClusterError(f"Not allowed to {what}: the API server does not know who you are. Log in, and {BINDING}.")
    if error.status == 403:
        return ClusterError(f"Not allowed to {what}: {BINDING}. The API server says: {says}")
    if error.status == 404:
        return _not_found(error, what, resource, namespace=namespace)
    if error.status == 409:
        return Conflict(f"Can't {what}: {says}")
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
