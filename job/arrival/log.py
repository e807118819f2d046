"""One JSON document a line, for whatever collects logs."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

from job.run.events import Emit, Event, Noted, Warned

LONGEST = 2000
"""Characters of a text."""


class Log:
    """Texts may be of strangers: JSON in ASCII lets none of them end a line, or move a terminal's cursor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __call__(self, event: str, **fields: Any) -> None:
        told = {name: _short(value) for name, value in fields.items() if value is not None}
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **told})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def of_job(self, job: str) -> Emit:
        """Logs what the stages of a job tell: only what someone should look at."""

        def emit(event: Event) -> None:
            if isinstance(event, (Warned, Noted)):
                self(event.kind, job=job, text=event.text)

        return emit


def _short(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value
