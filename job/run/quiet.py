"""What TensorFlow and Ray print though no setting of theirs asks for it."""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

DEBUG = "THAW_DEBUG"
"""Variable that `--debug` sets, for this process and those that it starts."""


@contextmanager
def no_stderr() -> Iterator[None]:
    """Closes the process's standard error, below Python, for as long as it lasts.

    Not so with --debug.
    """
    if os.environ.get(DEBUG):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextmanager
def no_last_word() -> Iterator[None]:
    """Ray's start lets colorama end standard output with an escape code, also on a terminal that has no colours."""
    try:
        yield
    finally:
        if colorama := sys.modules.get("colorama.initialise"):
            atexit.unregister(colorama.reset_all)


def import_tensorflow() -> None:
    """Without what it writes about the machine when it is imported first."""
    with no_stderr():
        import tensorflow  # noqa: F401


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
