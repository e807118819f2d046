"""The Kubernetes API server: few verbs on few kinds, objects as dicts, and errors that say what to do.

Requests that fail in passing are made again, a bounded number of times; everything else is a ClusterError. What was
allowed once and no longer is may pass, too: a server that is starting refuses all until it knows its roles.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from job.deploy.refusals import (
    SUBMITTER,
    Gone,
    Missing,
    NoLongerAllowed,
    NotAllowed,
    Role,
    Unreachable,
    one_line,
    refusal,
    told,
)
from job.errors import ClusterError
from job.run.proxies import bypass_proxies
from job.wording import sentence

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import HTTPResponse

TRIES = 6
"""Times that a request is made while the fault may pass."""
BREAKS = 2
"""Times that an answer may break off while it is read."""
PAUSE, LONGEST_PAUSE = 0.5, 60
"""Seconds: what the pauses between tries grow from (0, 1, 2, 4, 8), and the longest that a server may ask for."""
CONNECT, ANSWER = 5.0, 30.0
"""Seconds within which a connection must be made, and a part of an answer must come."""
WATCH = 60
"""Seconds after which the server ends a watch; a connection that died unseen is noticed soon after."""
PASSING = frozenset({429, 500, 502, 503, 504})
Object = dict[str, Any]


class Resource(NamedTuple):
    """A kind of objects: its name in URLs, and in the names of the client's methods (`list_namespaced_pod`)."""

    plural: str
    noun: str
    group: str = ""
    """Empty for Kubernetes' own."""


RAYJOBS = Resource("rayjobs", "custom_object", group="ray.io")
CONFIGMAPS = Resource("configmaps", "config_map")
PODS = Resource("pods", "pod")
EVENTS = Resource("events", "event")


class ObjectList(NamedTuple):
    items: list[Object]
    version: str
    """What a watch goes on from."""


class Api:
    """One namespace of a cluster."""

    def __init__(self, load: Callable[[], ApiClient], namespace: str, role: Role = SUBMITTER) -> None:
        """`load` reads the credentials; it is called again where they have run out. `role` is who asks."""
        self.namespace, self._role = namespace, role
        self._load, self._client = load, load()
        self._allowed: set[tuple[str, str]] = set()

    def check(self) -> None:
        """Raises ClusterError where the cluster can't be reached, or has no KubeRay."""
        self.get(RAYJOBS, "thaw")

    def create(self, resource: Resource, body: Object) -> Object:
        """Raises Conflict where it is there already, which may be the work of an earlier try."""
        return self._document("create", resource, body=body)

    def get(self, resource: Resource, name: str) -> Object | None:
        try:
            return self._document("get", resource, name=name)
        except Missing:
            return None

    def list(self, resource: Resource, **query: str) -> ObjectList:
        """`query`: label_selector, field_selector."""
        document = self._document("list", resource, **query)
        return ObjectList(document["items"], document["metadata"]["resourceVersion"])

    def patch(self, resource: Resource, name: str, body: Object) -> Object | None:
        """Merges `body` into the object, and returns it; None where there is none."""
        try:
            return self._document("patch", resource, name=name, body=body, _content_type="application/merge-patch+json")
        except Missing:
            return None

    def delete(self, resource: Resource, name: str) -> bool:
        """Whether it was there. What it owns goes after it."""
        try:
            self._document("delete", resource, name=name, propagation_policy="Background")
        except Missing:
            return False
        return True

    def watch(self, resource: Resource, version: str, **query: str) -> Iterator[tuple[str, Object]]:
        """(type, object) from this version on, until the server ends it. Raises Gone, and Unreachable."""
        from kubernetes.client import ApiException
        from kubernetes.watch import Watch

        events = Watch(return_type=object).stream(
            partial(self._answer, "watch", resource),
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH,
            _request_timeout=(CONNECT, WATCH + ANSWER),
            **query,
        )
        with self._refusals("watch", resource):
            try:
                for event in filter(None, events):  # None: a line that is no JSON
                    yield event["type"], event["object"]
            except (ApiException, KeyError) as error:  # an event ERROR; KeyError where it gives no reason
                raise Gone(f"The watch of {resource.plural} ended: {sentence(one_line(str(error)))}") from error

    def _document(self, verb: str, resource: Resource, **options: Any) -> Object:
        """What the server answers: an object, or a list of them. Raises ClusterError."""
        options |= {"_preload_content": False, "_request_timeout": (CONNECT, ANSWER)}
        with self._refusals(verb, resource):
            body = self._body(verb, resource, **options)
        try:
            document: Object = json.loads(body)
        except ValueError as error:
            host, says = self._client.configuration.host, one_line(body.decode(errors="replace"))[:100]
            raise ClusterError(f"{host} is no Kubernetes API server: it says {says!r}.") from error
        return document

    def _body(self, verb: str, resource: Resource, **options: Any) -> bytes:
        """The whole answer: asked for again where the connection breaks while it comes, which urllib3 leaves to us."""
        from urllib3.exceptions import IncompleteRead, ProtocolError

        for _ in range(BREAKS):
            with suppress(IncompleteRead, ProtocolError):
                return self._answer(verb, resource, **options).data
        return self._answer(verb, resource, **options).data

    def _answer(self, verb: str, resource: Resource, **options: Any) -> HTTPResponse:
        """Raises ClusterError. What was allowed before is asked for again for a while, as all that may pass."""
        call = (verb, resource.plural)
        for number in range(TRIES):
            try:
                answer = self._once(verb, resource, **options)
            except NotAllowed as error:
                if call not in self._allowed:
                    raise
                if number == TRIES - 1:
                    raise NoLongerAllowed(f"{error} It was allowed before: the server may be starting.") from error
                time.sleep(PAUSE * 2**number)
            else:
                break
        self._allowed.add(call)
        return answer

    def _once(self, verb: str, resource: Resource, **options: Any) -> HTTPResponse:
        """Raises ClusterError. Credentials that the server does not take (any more) are read again."""
        from kubernetes.client import ApiException

        with self._refusals(verb, resource):
            try:
                return self._method(verb, resource)(**options)
            except ApiException as error:
                if error.status != 401:
                    raise
            self._client = self._load()
            return self._method(verb, resource)(**options)

    def _method(self, verb: str, resource: Resource) -> Callable[..., HTTPResponse]:
        """As CustomObjectsApi.get_namespaced_custom_object, or CoreV1Api.read_namespaced_pod, in this namespace."""
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        verb = "list" if verb == "watch" else verb
        if resource.group:
            method = getattr(CustomObjectsApi(self._client), f"{verb}_namespaced_{resource.noun}")
            method = partial(method, group=resource.group, version="v1", plural=resource.plural)
        else:
            verb = "read" if verb == "get" else verb
            method = getattr(CoreV1Api(self._client), f"{verb}_namespaced_{resource.noun}")
        return partial(method, namespace=self.namespace)

    @contextmanager
    def _refusals(self, verb: str, resource: Resource) -> Iterator[None]:
        """What the client raises within, as ClusterErrors."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError, MaxRetryError

        try:
            yield
            return
        except ApiException as error:
            if error.status not in PASSING:
                raise refusal(error, verb, resource, namespace=self.namespace, role=self._role) from error
            fault = f"{error.status}, {told(error)}"
        except MaxRetryError as error:
            fault = f"{type(error.reason).__name__}: {error.reason}"
        except (HTTPError, OSError) as error:
            raise Unreachable(f"The connection to the Kubernetes API server broke: {sentence(error)}") from error
        looking = self._role.looking.format(namespace=self.namespace)
        raise Unreachable(
            f"{self._client.configuration.host}: could not {verb} {resource.plural} in {TRIES} tries: "
            f"{sentence(fault)} {looking[0].upper()}{looking[1:]}."
        )


def connect(context: str | None, namespace: str, role: Role = SUBMITTER) -> Api:
    """The cluster of this context, or of KUBECONFIG's current one; in a pod that has none, the pod's own."""
    return Api(partial(_client, context), namespace, role)


def _client(context: str | None) -> ApiClient:
    from kubernetes import client, config
    from urllib3 import Retry

    files = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not any(map(os.path.exists, files.split(os.pathsep)))
    if in_pod and context is None:
        bypass_proxies([os.environ["KUBERNETES_SERVICE_HOST"]])
    settings = client.Configuration()
    settings.retries = Retry(
        TRIES - 1,
        redirect=False,
        allowed_methods=None,
        status_forcelist=PASSING,
        raise_on_status=False,
        backoff_factor=PAUSE,
        backoff_jitter=PAUSE,
        retry_after_max=LONGEST_PAUSE,
    )
    try:
        if in_pod and context is None:
            config.load_incluster_config(settings)
        else:
            config.load_kube_config(files, context, settings, persist_config=False)
    except config.ConfigException as error:
        asked_context = f" of context {context}" if context else ""
        raise ClusterError(
            f"{files}: the cluster{asked_context} is not in it: {sentence(error)} Set KUBECONFIG or --context."
        ) from error
    return client.ApiClient(settings)
