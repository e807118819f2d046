"""One JSON document a line, for whatever collects logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

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

    def narrator(self, job: str) -> Callable[..., None]:
        """What the stages of a job say: only what someone should look at."""

        def say(kind: str, **event: Any) -> None:
            if kind in ("warning", "note"):
                self(kind, job=job, text=event["text"])

        return say


def _short(value: Any) -> Any:
    return value[:LONGEST] if isinstance(value, str) else value
