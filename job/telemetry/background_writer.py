"""Writes objects to the store while a run goes on, which never waits for it."""

from __future__ import annotations

import threading

from job.run.events import Emit, Warned
from job.storage import Store

INTERVAL = 15.0
"""Seconds between two writes."""
LAST = 30.0
"""Seconds that the end waits for the last of them."""


class BackgroundWriter:
    """A thread that writes what was put since it last did. Where the store refuses it there is one warning."""

    def __init__(self, store: Store, what: str, emit: Emit) -> None:
        self._store, self._what, self._emit = store, what, emit
        self._wanted: dict[str, bytes] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._write, name=what, daemon=True)
        self._thread.start()

    def put(self, key: str, content: bytes) -> None:
        with self._lock:
            self._wanted[key] = content

    def close(self) -> None:
        self._over.set()
        self._thread.join(LAST)

    def _write(self) -> None:
        warned = over = False
        while not over:
            over = self._over.wait(INTERVAL)
            with self._lock:
                due, self._wanted = self._wanted, {}
            for key, content in due.items():
                try:
                    self._store.write(key, content)
                except Exception as error:  # whatever it is, the run goes on
                    if not warned:
                        warned = True
                        self._emit(Warned(f"{self._what} can't be written: {error}"))
