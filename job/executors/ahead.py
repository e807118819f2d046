"""Prefetches items of an iterator in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """Yields the items, up to `count` of which a thread makes in advance.

    An error while making an item is raised in its place. Where the consumer stops early, so does the thread.
    """
    ready: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    room, over = threading.Semaphore(count), threading.Event()

    def make() -> None:
        iterator = iter(items)
        try:
            while room.acquire() and not over.is_set():
                ready.put((True, next(iterator)))
        except StopIteration:
            ready.put((False, None))
        except BaseException as error:
            ready.put((False, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = ready.get()
            if is_item:
                room.release()
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        over.set()
        room.release()
