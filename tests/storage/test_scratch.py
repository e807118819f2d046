"""Folders on the way: gone at the end, and those of killed processes with the next process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from job.storage.scratch import forget_scratch, scratch

HOLDS = """
import sys, time
from job.storage.scratch import scratch

with scratch() as folder:
    open(folder + "/large", "w").write("x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_empty_and_gone_at_the_end(temporary: Path) -> None:
    with scratch() as folder:
        assert os.listdir(folder) == []
        Path(folder, "file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_only_folders_of_killed_processes_are_forgotten(temporary: Path) -> None:
    theirs = temporary / "thaw-tmp-of-others"
    theirs.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with scratch() as mine:
            forget_scratch()
            assert Path(mine).exists()
        assert (folder / "large").exists(), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / "large").exists()
    forget_scratch()
    assert list(temporary.iterdir()) == [theirs]
