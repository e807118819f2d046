"""Work that is begun before it is asked for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], count: int) -> Iterator[T]:
    """The items, of which up to `count` are made in a thread while the one before them is in use.

    What making them raises is raised in their place. Where the consumer stops early, so does the thread.
    """
    ready: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    room, over = threading.Semaphore(count), threading.Event()

    def make() -> None:
        made = iter(items)
        try:
            while room.acquire() and not over.is_set():
                ready.put((True, next(made)))
        except StopIteration:
            ready.put((False, None))
        except BaseException as error:
            ready.put((False, error))

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, found = ready.get()
            if is_item:
                room.release()
                yield found
            elif found is None:
                return
            else:
                raise found
    finally:
        over.set()
        room.release()
