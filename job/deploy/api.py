"""The Kubernetes API server: few verbs on few kinds, objects as dicts, and errors that say what to do.

Requests that fail in passing are made again, a bounded number of times; everything else is a ClusterError.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from job.deploy.refusals import Gone, Missing, Resource, Unreachable, refusal, told
from job.errors import ClusterError
from job.run.proxies import bypass_proxies

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

TRIES = 6
"""Times that a request is made while the fault may pass."""
PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds: the pause after the first try, which doubles, and the longest that a server may ask for."""
CONNECT, ANSWER = 5.0, 30.0
"""Seconds within which a connection must be made, and a part of an answer must come."""
WATCH = 60
"""Seconds after which the server ends a watch; a connection that died unseen is noticed soon after."""
PASSING = frozenset({429, 500, 502, 503, 504})
Object = dict[str, Any]

RAYJOBS = Resource("RayJob", "rayjobs", "ray.io/v1")
CONFIGMAPS = Resource("ConfigMap", "configmaps")
PODS = Resource("Pod", "pods")
EVENTS = Resource("Event", "events")


class Api:
    """One namespace of a cluster."""

    def __init__(self, load: Callable[[], ApiClient], namespace: str, sleep: Callable[[float], None] = time.sleep):
        """`load` reads the credentials; it is called again where they have run out."""
        self.namespace = namespace
        self._load, self._client, self._sleep = load, load(), sleep

    def create(self, resource: Resource, body: Object) -> Object:
        """Raises Conflict where it is there already, which may be the work of an earlier try."""
        return self._json("create", "POST", resource, body=body)

    def get(self, resource: Resource, name: str) -> Object | None:
        try:
            return self._json("get", "GET", resource, name)
        except Missing:
            return None

    def list(self, resource: Resource, **query: str) -> tuple[list[Object], str]:
        """The objects, and the version that a watch goes on from. `query`: labelSelector, fieldSelector."""
        found = self._json("list", "GET", resource, query=query)
        return found["items"], found["metadata"]["resourceVersion"]

    def patch(self, resource: Resource, name: str, body: Object) -> Object | None:
        """Merges `body` into the object, and returns it; None where there is none."""
        try:
            return self._json("patch", "PATCH", resource, name, body=body)
        except Missing:
            return None

    def delete(self, resource: Resource, name: str) -> bool:
        """Whether it was there. What it owns goes after it."""
        try:
            self._json("delete", "DELETE", resource, name, body={"propagationPolicy": "Background"})
        except Missing:
            return False
        return True

    def watch(self, resource: Resource, version: str, **query: str) -> Iterator[tuple[str, Object]]:
        """(type, object) from this version on, until the server ends it. Raises Gone, and Unreachable."""
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH)}
        query["resourceVersion"] = version
        response = self._request("watch", "GET", resource, query=query)
        try:
            yield from _events(response.response)
        finally:
            response.response.close()

    def _json(self, verb: str, method: str, resource: Resource, name: str = "", **content: Any) -> Object:
        body = self._request(verb, method, resource, name, **content).read()
        try:
            document: Object = json.loads(body)
        except ValueError as error:
            host = self._client.configuration.host
            raise ClusterError(f"{host} is no Kubernetes API server: it says {told(body)[:100]!r}.") from error
        return document

    def _request(self, verb: str, method: str, resource: Resource, name: str = "", **content: Any) -> Any:
        """An answer that is no error, read to its end but for that of a watch. Raises ClusterError."""
        from urllib3.exceptions import HTTPError

        path, renewed = resource.path(self.namespace, name), False
        for tries in range(1, TRIES + 1):
            fault, asked = "", None
            try:
                response = self._send(method, path, **content)
                if verb == "watch" and response.status < 400:
                    return response
                body = response.read()
            except (HTTPError, OSError) as error:
                fault = f"{type(error).__name__}: {error}"
            else:
                if response.status < 400:
                    return response
                if response.status == 401 and not renewed:  # a token does not live as long as a run may
                    renewed, self._client = True, self._load()
                    continue
                if response.status not in PASSING:
                    raise refusal(verb, resource, self.namespace, response.status, body)
                fault, asked = f"{response.status}, {told(body)}", response.getheader("Retry-After")
            if tries < TRIES:
                self._sleep(_pause(tries, asked))
        raise Unreachable(
            f"{self._client.configuration.host}: could not {verb} {resource.plural} in {TRIES} tries: {fault}. "
            "Check that the cluster can be reached (kubectl get pods), then try again."
        )

    def _send(self, method: str, path: str, query: dict[str, str] | None = None, body: Object | None = None) -> Any:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        _, url, headers, content, _ = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": kind},
            body=body,
            auth_settings=["BearerToken"],
        )
        patience = ANSWER + (WATCH if query and "watch" in query else 0)
        return self._client.call_api(method, url, headers, content, _request_timeout=(CONNECT, patience))


def connect(context: str | None, namespace: str) -> Api:
    """The cluster of this context, or of KUBECONFIG's current one; in a pod that has none, the pod's own."""
    return Api(lambda: _client(context), namespace)


def _client(context: str | None) -> ApiClient:
    from kubernetes import client, config

    files = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not any(map(os.path.exists, files.split(os.pathsep)))
    if in_pod and context is None:
        bypass_proxies([os.environ["KUBERNETES_SERVICE_HOST"]])
    settings = client.Configuration()
    settings.retries = False  # Api's own are bounded, and honour Retry-After
    try:
        if in_pod and context is None:
            config.load_incluster_config(settings)
        else:
            config.load_kube_config(files, context, settings, persist_config=False)
    except config.ConfigException as error:
        wanted = f" of context {context}" if context else ""
        raise ClusterError(
            f"{files}: the cluster{wanted} is not in it: {error} Set KUBECONFIG or --context."
        ) from error
    return client.ApiClient(settings)


def _events(stream: Any) -> Iterator[tuple[str, Object]]:
    """The events of an answer that has a JSON document in each line."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in stream.stream(amt=None, decode_content=False):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Gone(event["object"].get("message", "the watch ended"))
                yield event["type"], event["object"]
    except (HTTPError, OSError, ValueError) as error:
        raise Unreachable(f"The connection to the Kubernetes API server broke: {error}") from error


def _pause(tries: int, asked: str | None) -> float:
    """Doubles, with jitter, so that many do not come back at once; never less than the server asks for."""
    least = min(float(asked), LONGEST_PAUSE) if asked and asked.isdigit() else 0.0
    return max(least, PAUSE * 2 ** (tries - 1)) * (1 + random.random() / 4)
