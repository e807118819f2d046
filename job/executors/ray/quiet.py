"""Suppresses output of Ray that no setting turns off."""

from __future__ import annotations

import atexit
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def no_last_word() -> Iterator[None]:
    """Removes colorama's exit handler, which Ray's start registers: it would write an escape code to standard
    output.
    """
    try:
        yield
    finally:
        if colorama := sys.modules.get("colorama.initialise"):
            atexit.unregister(colorama.reset_all)


class WithoutRetries(io.TextIOBase):
    """Passes on what Ray prints, except for its lines about retries."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if "retries remaining" not in text:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
