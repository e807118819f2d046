from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from kills import Scene, Watched

from job.cli import main
from support.killed import Start

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
"""(*words of the command line) -> exit code, standard output and standard error"""
WATCHED = Path(__file__).parents[1] / "watched"
"""Its sitecustomize.py notes how a process comes to TensorFlow."""


def thaw_in_new_process(*words: str) -> subprocess.CompletedProcess[str]:
    """All processes that it starts, Ray's among them, import TensorFlow in one way."""
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "first_imports")
        environment = {**os.environ, "PYTHONPATH": str(WATCHED), "FIRST_IMPORTS": str(notes)}
        command = [sys.executable, "-m", "job", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        found = notes.read_text().splitlines() if notes.exists() else []
    assert [line for line in found if " past " in line] == []
    return done


def thaw_here(*words: str) -> subprocess.CompletedProcess[str]:
    """The same command line in this process, which has imported TensorFlow already."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr("sys.argv", ["thaw", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return subprocess.CompletedProcess(words, int(ended.value.code or 0), output.getvalue(), errors.getvalue())


@pytest.fixture(scope="session")
def here() -> Thaw:
    return thaw_here


@pytest.fixture(scope="session")
def in_new_process() -> Thaw:
    return thaw_in_new_process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """What still runs is ended with the test."""
    with ExitStack() as stack:
        yield lambda command: stack.enter_context(Watched(command, Scene(tmp_path / "store")))
