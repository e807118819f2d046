"""What the Kubernetes API server's refusals mean, and what to do about each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from job.errors import ClusterError

BINDING = "bind the role thaw-submit (k8s/base/access.yaml) to your user"


@dataclass(frozen=True)
class Resource:
    kind: str
    plural: str
    group: str = ""
    """With its version; empty for Kubernetes' own."""

    def path(self, namespace: str, name: str = "") -> str:
        root = f"/apis/{self.group}" if self.group else "/api/v1"
        return f"{root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


class Conflict(ClusterError):
    """The object is there already."""


class Missing(ClusterError):
    """There is no such object."""


class Gone(ClusterError):
    """A watch can't go on from that version any more: list again."""


class Unreachable(ClusterError):
    """What may pass did not pass in time."""


def refusal(verb: str, resource: Resource, namespace: str, status: int, body: bytes) -> ClusterError:
    what, says = f"{verb} {resource.plural} in namespace {namespace}", told(body)
    if status == 401:
        return ClusterError(f"Not allowed to {what}: the API server does not know who you are. Log in, and {BINDING}.")
    if status == 403:
        return ClusterError(f"Not allowed to {what}: {BINDING}. The API server says: {says}")
    if status == 404:
        return _not_found(what, resource, namespace, body)
    if status == 409:
        return Conflict(f"Can't {what}: {says}")
    if status == 410:
        return Gone(says)
    return ClusterError(f"The API server refuses to {what}: {says} ({status}).")


def told(body: bytes) -> str:
    """The answer's message, in one line."""
    text = _json(body).get("message") or body.decode(errors="replace")
    return " ".join(text.split())[:500] or "no reason given"


def _not_found(what: str, resource: Resource, namespace: str, body: bytes) -> ClusterError:
    """An object, its namespace, or the whole API, which answers without naming an object."""
    details = _json(body).get("details") or {}
    if details.get("kind") == "namespaces":
        return ClusterError(f"There is no namespace {namespace}: `kubectl apply -k` the overlay first, which makes it.")
    if resource.group and not details.get("name"):
        return ClusterError(f"Can't {what}: KubeRay is not installed in this cluster: see k8s/platform/.")
    return Missing(f"Can't {what}: there is none of that name.")


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
