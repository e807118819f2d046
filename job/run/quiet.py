"""What Ray prints though no setting of its own asks for it."""

from __future__ import annotations

import atexit
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def no_last_word() -> Iterator[None]:
    """Ray's start lets colorama end standard output with an escape code, also on a terminal that has no colours."""
    try:
        yield
    finally:
        if colorama := sys.modules.get("colorama.initialise"):
            atexit.unregister(colorama.reset_all)


class WithoutRetries(io.TextIOBase):
    """Passes on what Ray prints, but for the lines that it prints each time that it tries something again."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if "retries remaining" not in text:
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
