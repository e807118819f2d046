"""What a worker watches beside its training: that it gets on at all, and what takes how long."""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

INTERVAL = 1.0
"""Seconds between two looks."""
REPORT = 30.0
"""Seconds that a report may take."""
STALLED = 75
"""Exit status of a worker that ended itself because nothing moved."""


class Watchdog:
    """Ends this process where `beat` was not called for `timeout` seconds, after `report` had every thread's stack."""

    def __init__(self, timeout: float, report: Callable[[str], None], leave: Callable[[int], Any] = os._exit) -> None:
        self._timeout, self._report, self._leave = timeout, report, leave
        self._beaten = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        self._beaten = time.monotonic()

    def end(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(min(INTERVAL, self._timeout / 4)):
            if time.monotonic() - self._beaten > self._timeout:
                reporter = threading.Thread(target=self._report, args=(stacks(),), daemon=True)
                reporter.start()
                reporter.join(REPORT)  # what this process waits for may be the store that takes the report
                self._leave(STALLED)
                return


class Laps:
    """How long the parts of something take, in seconds."""

    def __init__(self) -> None:
        self.began, self._last = time.time(), time.monotonic()
        self.seconds: dict[str, float] = {}

    def lap(self, part: str) -> None:
        now = time.monotonic()
        self.seconds[part], self._last = round(now - self._last, 2), now


def stacks() -> str:
    """Where each thread of this process is."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
