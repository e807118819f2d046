"""SIGTERM, and what is asked for in its stead: what is done is kept, and the process ends in time.

Several may want that at once: as a RayJob is deleted, Ray sends SIGTERM, and the head's pod drains. Both may be pending
when Python looks, which then takes the lower number first, whichever came first. So the first of each kind asks, and
changes nothing where it has been asked already. A second SIGTERM is somebody who does not want to wait; who wants no
more than that the run ends sends ASK, as often as they like.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from job.errors import Interrupted

ASK = signal.SIGUSR1


class Interrupts:
    """Handles SIGTERM and ASK for as long as its `with` block lasts; elsewhere than in the main thread it does nothing.

    Where training goes on, its workers are asked to keep a checkpoint and to end. Other stages lose at most the part
    that is under way, and are broken off by Interrupted.
    """

    def __init__(self) -> None:
        self.asked = ""
        """The signal's name, or who wanted it, once it came."""
        self._by = ""
        self._terminated = False
        self._came = threading.Event()
        self._passed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, ASK)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt) and self.asked:
            raise self.interrupted() from error

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

    def interrupted(self, kept: str = "what is done is kept") -> Interrupted:
        """The error that a run ends with, once somebody has asked it to."""
        return Interrupted(f"Stopped by {self.asked}: {kept}, and running again goes on from it.")

    def ask(self, by: str) -> None:
        """As the first signal does, in the name of someone else; from another thread, and as often as one likes."""
        if self._before:
            self._by = by
            _wake(ASK)

    def break_off(self) -> None:
        """As a second SIGTERM does; from another thread."""
        self._terminated = True
        _wake(signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, again = not self.asked, number == signal.SIGTERM and self._terminated
        self._terminated |= number == signal.SIGTERM
        self.asked = self.asked or self._name(number)
        self._came.set()
        if again or (first and not self._passed):
            raise KeyboardInterrupt  # the one exception of a handler that gets through what waits in Ray's core

    def _name(self, number: int) -> str:
        if number == ASK:
            return self._by or "`thaw drain`"
        return signal.Signals(number).name


def _wake(number: signal.Signals) -> None:
    """To the main thread: what it waits for would go on if another thread took a signal to the process."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
