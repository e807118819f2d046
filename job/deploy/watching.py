"""Objects of a cluster as they change, for as long as someone looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from job.deploy.api import Api, Object, Resource
from job.deploy.refusals import Gone, Unreachable

PATIENCE = 600.0
"""Seconds without the API server (an upgrade of a control plane takes minutes) after which looking ends."""
PAUSE = 1.0
"""Seconds between two watches, so that a server that ends each at once is not flooded."""


def changes(
    api: Api, resource: Resource, say: Callable[..., None], *, over: threading.Event, **query: str
) -> Iterator[tuple[str, list[Object]]]:
    """(`LISTED`, all of them), and then (`ADDED`, `MODIFIED` or `DELETED`, [one]), until `over`.

    A watch that broke goes on where it was; where the server does not know that version any more, all are listed again.
    Raises ClusterError.
    """
    version, heard, told = "", time.monotonic(), False
    while not over.is_set():
        try:
            if not version:
                objects, version = api.list(resource, **query)
                heard = time.monotonic()
                yield "LISTED", objects
            for kind, item in api.watch(resource, version, **query):
                version, heard, told = item["metadata"]["resourceVersion"], time.monotonic(), False
                if kind != "BOOKMARK":
                    yield kind, [item]
            heard = time.monotonic()
        except Gone:
            version = ""
        except Unreachable as error:
            if time.monotonic() - heard > PATIENCE:
                raise
            if not told and not over.is_set():
                told = True
                say("note", text=f"{error} Looking again.")
        over.wait(PAUSE)
