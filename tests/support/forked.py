"""`python -m job …` in a process that is forked from one which has imported TensorFlow, in place of one that imports it
again: as real a process as any, a second and a half earlier.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO

import pytest

THAW = [sys.executable, "-m", "job"]


class Forked:
    """What is used of a `subprocess.Popen` whose output goes to pipes; `command` begins with THAW."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        (output, to_output), (errors, to_errors) = (_context().Pipe(duplex=False) for _ in range(2))
        arguments = list(command[len(THAW) :]), dict(environment), to_output, to_errors
        self._process = _context().Process(target=_thaw, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdout, self.stderr = _text(output), _text(errors)
        to_output.close()
        to_errors.close()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        self._process.join()


@cache
def _context() -> ForkServerContext:
    """Its server is started with it, once in this process, and ends with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where the server finds it
        forkserver.ensure_running()
    return context


def _text(pipe: Connection) -> IO[str]:
    return os.fdopen(os.dup(pipe.fileno()))


def _thaw(words: list[str], environment: dict[str, str], output: Connection, errors: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for pipe, standard in ((output, 1), (errors, 2)):
        os.dup2(pipe.fileno(), standard)
        pipe.close()
    sys.argv = ["thaw", *words]
    from job.cli import main

    main()
