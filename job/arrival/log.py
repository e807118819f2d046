"""The log of the watcher: one JSON document a line, for log collectors."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

from job.run.events import Emit, Event, Noted, Warned

LONGEST = 2000
"""The most characters of a text in the log."""


class Log:
    """Writes log lines. Texts may come from strangers: as JSON in ASCII, they can't end a line or control a
    terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, event: str, **fields: Any) -> None:
        shown = {name: _short(value) for name, value in fields.items() if value is not None}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **shown})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def of_job(self, job: str) -> Emit:
        """A function that logs the warnings and notes among a job's events."""

        def emit(event: Event) -> None:
            if isinstance(event, (Warned, Noted)):
                self(event.kind, job=job, text=event.text)

        return emit


def _short(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value
