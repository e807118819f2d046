"""The listener: it receives the events of the training workers in the driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from job import errors
from job.errors import ClusterError, ThawError
from job.executors.ray.actors import IDLE
from job.run.events import Emit, Event, HandedOver, Noted, TrainingEnded, WorkerFailed, WorkersFormed, WorkersForming
from job.run.proxies import explain_unformed

FORMING = 120.0
"""Seconds in which the workers, once all are started, have to connect to each other."""


class Listener:
    """A thread that passes the workers' events to `emit`, and emits a note while no worker is at work.

    Workers that can't connect to each other never end: it calls `break_off` to end the wait for them. `workers`
    describes the group in words.
    """

    def __init__(self, events: Any, emit: Emit, ledger: Any, *, workers: str, break_off: Callable[[], None]) -> None:
        self._events, self._emit, self._ledger, self._workers = events, emit, ledger, workers
        self._break_off = break_off
        self._forming: WorkersForming | None = None
        self._until = 0.0
        self.error: ThawError | None = None
        self.trained = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stopped(self) -> ThawError | None:
        """Ends the thread once all events were passed on; returns the first error among them."""
        import ray

        if self._thread.is_alive():
            with suppress(ray.exceptions.RayError):
                self._events.put(None)
                self._thread.join(timeout=30)
                self._events.shutdown()
        return self.error

    def _listen(self) -> None:
        import ray
        from ray.util.queue import Empty

        with suppress(ray.exceptions.RayError):  # Ray itself is gone: the driver finds out, too
            while True:
                try:
                    event = self._events.get(timeout=self._patience())
                except Empty:
                    if self._forming and not self._patience():
                        self._give_up(self._forming)
                    elif ray.get(self._ledger.is_idle.remote(IDLE)):
                        self._emit(Noted(f"no worker is at work: waiting for {self._workers}"))
                    continue
                if event is None:
                    return
                self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, WorkerFailed):
            self.error = self.error or getattr(errors, event.error)(*event.arguments)
        elif isinstance(event, WorkersForming):
            self._forming, self._until = event, time.monotonic() + FORMING
        elif isinstance(event, WorkersFormed):
            self._forming = None
        else:
            self.trained |= isinstance(event, TrainingEnded | HandedOver)
            self._emit(event)

    def _patience(self) -> float:
        """Seconds to wait for the next event."""
        return max(0.0, min(IDLE, self._until - time.monotonic())) if self._forming else IDLE

    def _give_up(self, group: WorkersForming) -> None:
        import ray

        self._forming = None
        if ray.get(self._ledger.is_broken.remote()):
            return
        self.error = self.error or ClusterError(explain_unformed(group.addresses, group.proxies, FORMING))
        ray.get(self._ledger.end.remote())
        self._break_off()
