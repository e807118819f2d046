"""Interrupts of a run, by SIGTERM or ASK: finished work is kept, and the process ends in time.

Both may come at once: when a RayJob is deleted, Ray sends SIGTERM, and the pod of its head drains. Python then handles
the lower number first, whichever came first. So the first signal of each kind only asks the run to end, and changes
nothing where it was asked already. A second SIGTERM breaks the run off. ASK never does, however often it is sent.
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
    """Handles SIGTERM and ASK within its `with` block. It does nothing in other threads than the main one.

    During training, the workers are asked to keep a checkpoint and to end. Other stages are ended by Interrupted, and
    lose at most their current part.
    """

    def __init__(self, once: bool = False) -> None:
        """With `once` the first signal ends the block, and those after it do nothing."""
        self._once = once
        self.asked = ""
        """The name of the signal, or of who asked, once the run was asked to end; else empty."""
        self._by = ""
        self._terminated = False
        self._came = threading.Event()
        self._passed = self._ignored = False
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
        """Within the block, a signal calls `stop` in another thread, since signal handlers must not call Ray.

        The argument of `stop` is an event that is set when the block ends.
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

    def ignore(self) -> None:
        """From now on no signal does anything: what is left takes a bounded time, and must not be cut short."""
        self._ignored = True

    def interrupted(self, kept: str = "what is done is kept") -> Interrupted:
        """The error of a run that was asked to end; `kept` says what it keeps."""
        return Interrupted(f"Stopped by {self.asked}: {kept}, and running again goes on from it.")

    def ask(self, by: str) -> None:
        """Asks the run to end, as the first signal does, in the name of `by`. For other threads; may be repeated."""
        if self._before:
            self._by = by
            _wake(ASK)

    def break_off(self) -> None:
        """Breaks the run off, as a second SIGTERM does. For other threads."""
        self._terminated = True
        _wake(signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, again = not self.asked, number == signal.SIGTERM and self._terminated
        self._terminated |= number == signal.SIGTERM
        self.asked = self.asked or self._name(number)
        self._came.set()
        if self._ignored:
            return
        self._ignored = self._once
        if again or (first and not self._passed):
            raise KeyboardInterrupt  # the only exception of a handler that ends a wait in Ray's core

    def _name(self, number: int) -> str:
        if number == ASK:
            return self._by or "`thaw drain`"
        return signal.Signals(number).name


def _wake(number: signal.Signals) -> None:
    """Sends the signal to the main thread. A signal to the process could reach another thread, and wake nothing."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
