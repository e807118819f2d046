"""Work that is begun before it is asked for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, of which up to `count` are made in a thread while the one before them is in use.

    What making them raises is raised in their place. Where the consumer stops early, so does the thread.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(count)
    over = threading.Event()

    def put(found: tuple[bool, Any]) -> None:
        while not over.is_set():
            with suppress(queue.Full):
                return ready.put(found, timeout=0.1)

    def make() -> None:
        try:
            for item in items:
                put((True, item))
                if over.is_set():
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, found = ready.get()
            if is_item:
                yield found
            elif found is None:
                return
            else:
                raise found
    finally:
        over.set()
