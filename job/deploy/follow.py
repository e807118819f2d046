"""Tells how a RayJob goes on, until it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

from job.deploy.annotations import progress_line
from job.deploy.api import PODS, RAYJOBS, Api, Object, Resource
from job.deploy.manifest import INSTANCE
from job.deploy.patience import Patience
from job.deploy.pods import problems
from job.deploy.refusals import Gone, Unreachable
from job.deploy.stages import DELETING, ENDED, exit_code, failures, meaning, stage_of, why_failed
from job.errors import ClusterError
from job.run.events import Announced, Emit, Event, Noted, Warned

STOPPED = 130
"""Exit code of who no longer wants to follow."""
PAUSE = 1.0
"""Seconds between two watches, so that a server that ends each at once is not flooded."""


def follow(api: Api, name: str, emit: Emit) -> int:
    """Says what changes, each problem of a pod once, and returns the exit code of the job.

    That is what the run's last attempt wrote on its RayJob; else the one in KubeRay's message; else that of a
    ClusterError.
    """
    heard: Queue[tuple[str, str, Any]] = Queue()
    over = threading.Event()

    def listen(source: str, resource: Resource, query: dict[str, str]) -> None:
        try:
            for kind, items in _changes(api, resource, emit, over=over, **query):
                heard.put((source, kind, items))
        except Exception as error:  # raised where someone waits for it
            heard.put((source, "ERROR", error))

    for source, resource, query in (
        ("rayjob", RAYJOBS, {"field_selector": f"metadata.name={name}"}),
        ("pods", PODS, {"label_selector": f"{INSTANCE}={name}"}),
    ):
        threading.Thread(target=listen, args=(source, resource, query), name=f"follow {source}", daemon=True).start()
    teller = _Teller(name, emit)
    try:
        while True:
            source, kind, items = heard.get()
            if kind == "ERROR":
                raise items
            if source == "pods":
                teller.pods(items)
            elif (code := teller.rayjob(kind, items)) is not None:
                return code
    except KeyboardInterrupt:
        emit(Noted(f"not followed any more; the job goes on: thaw status {name} -n {api.namespace}"))
        return STOPPED
    finally:
        over.set()


def _changes(
    api: Api, resource: Resource, emit: Emit, *, over: threading.Event, **query: str
) -> Iterator[tuple[str, list[Object]]]:
    """(`LISTED`, all of them), and then (`ADDED`, `MODIFIED` or `DELETED`, [one]), until `over`.

    A watch that broke goes on where it was; where the server does not know that version any more, all are listed again.
    Raises ClusterError.
    """
    version, patience = "", Patience(emit)
    while not over.is_set():
        try:
            if not version:
                objects, version = api.list(resource, **query)
                patience.heard()
                yield "LISTED", objects
            for kind, item in api.watch(resource, version, **query):
                version = item["metadata"]["resourceVersion"]
                patience.heard()
                if kind != "BOOKMARK":
                    yield kind, [item]
            patience.heard()
        except Gone:
            version = ""
        except Unreachable as error:
            patience.missed(error, over=over.is_set())
        over.wait(PAUSE)


class _Teller:
    def __init__(self, name: str, emit: Emit) -> None:
        self._name, self._emit = name, emit
        self._told: set[str] = set()
        self._stage: str | None = None
        self._failed = 0
        self._line = ""
        self._last: Object = {}

    def rayjob(self, kind: str, items: list[Object]) -> int | None:
        """The exit code, once it has ended."""
        if kind == "DELETED" or not items:
            return self._deleted(items)
        rayjob = self._last = items[0]
        stage = stage_of(rayjob)
        self._failures(rayjob, stage)
        if stage != self._stage and stage not in ENDED:
            self._emit(Announced(meaning(rayjob)))
        self._stage = stage
        line = progress_line(rayjob["metadata"].get("annotations", {}))
        if line and line != self._line:
            self._line = line
            self._emit(Announced(line))
        code = exit_code(rayjob)
        if code is not None:
            self._end(code, rayjob)
        return code

    def pods(self, items: list[Object]) -> None:
        for pod in items:
            for key, text in problems(pod):
                self._once(key, Warned(text))

    def _failures(self, rayjob: Object, stage: str) -> None:
        failed = failures(rayjob)
        if failed > self._failed and stage not in ENDED | {DELETING}:
            why = why_failed(rayjob)
            text = f"attempt {failed} has failed{f' ({why})' if why else ''}: KubeRay makes a new cluster for the next"
            self._emit(Warned(text))
        self._failed = failed

    def _end(self, code: int, rayjob: Object) -> None:
        if not code:
            return self._emit(Announced(f"{self._name} is complete"))
        why = why_failed(rayjob) or "KubeRay gives no reason"
        self._emit(Warned(f"{self._name} has failed (exit code {code}): {why}"))

    def _deleted(self, items: list[Object]) -> int:
        """Also where it ended before, as one that is kept for a day does."""
        last = items[0] if items else self._last
        code = exit_code(last) if last else None
        self._emit(Warned(f"{self._name} was deleted"))
        return ClusterError.exit_code if code is None else code

    def _once(self, key: str, event: Event) -> None:
        if key not in self._told:
            self._told.add(key)
            self._emit(event)
