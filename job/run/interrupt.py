"""SIGTERM, and what is asked for in its stead: what is done is kept, and the process ends in time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from job.errors import Interrupted


class Interrupts:
    """Handles SIGTERM for as long as its `with` block lasts; elsewhere than in the main thread it does nothing.

    Where training goes on, its workers are asked to keep a checkpoint and to end. Other stages lose at most the part
    that is under way, and are broken off by Interrupted.
    """

    def __init__(self) -> None:
        self.asked = ""
        """The signal's name, or who wanted it, once it came."""
        self._by = ""
        self._came = threading.Event()
        self._passed = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if isinstance(error, KeyboardInterrupt) and self.asked:
            text = f"Stopped by {self.asked}: what is done is kept, and running again goes on from it."
            raise Interrupted(text) from error

    @contextmanager
    def passed_to(self, stop: Callable[[threading.Event], Any]) -> Iterator[None]:
        """Meanwhile a signal calls `stop`, from another thread (Ray is not to be called by a signal handler).

        Its argument is set when the block ends.
        """
        over = threading.Event()

        def wait() -> None:
            while not over.wait(0.2):
                if self._came.is_set():
                    stop(over)
                    return

        thread = threading.Thread(target=wait, name="interrupts", daemon=True)
        self._passed = True
        thread.start()
        try:
            yield
        finally:
            self._passed = False
            over.set()
            thread.join()

    def ask(self, by: str) -> None:
        """As a signal does, in the name of someone else; from another thread."""
        if self._before is not None:
            self._by = by
            os.kill(os.getpid(), signal.SIGTERM)

    def break_off(self) -> None:
        """As a second signal does; from another thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.asked)
        self.asked = self.asked or self._by or signal.Signals(number).name
        self._came.set()
        if not self._passed or again:
            raise KeyboardInterrupt  # the one exception of a handler that gets through what waits in Ray's core
