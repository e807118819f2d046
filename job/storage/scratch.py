"""Temporary folders of a process. Those of killed processes are found and deleted later."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "thaw-tmp-"
LOCK = "lock"
"""A file that the owner of a folder keeps locked. The lock ends with its process."""


@contextmanager
def scratch() -> Iterator[str]:
    """An empty folder in TMPDIR, deleted at the end of the `with` block."""
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as own,
        open(Path(own, "unlocked"), "w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(lock.name).rename(Path(own, LOCK))  # so it is locked from the first moment on
        folder = Path(own, "content")
        folder.mkdir()
        yield str(folder)


def forget_scratch() -> None:
    """Deletes the folders of processes that were killed on this machine."""
    for own in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            with open(own / LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(own, ignore_errors=True)
        except OSError:  # its owner lives, or has not locked it yet
            continue
