"""`thaw` in a process of its own; here that is a shell script that says and ends as we like."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config.jobfile import parse_job
from job.errors import ClusterError, DataError, Interrupted, JobError, ThawError
from job.run.child import run_thaw

JOB = parse_job("{name: cells, data: {source: 's3://bucket/cells/'}, store: 's3://bucket/thaw/'}")


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "python").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "python").chmod(0o755)
    monkeypatch.setattr("job.run.child.sys.executable", str(folder / "python"))


def test_it_gets_the_job_and_is_heard_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "echo one >&2; echo two >&2; echo $1 $2 $3 $5; cat $4")
    heard: list[str] = []
    processes: list[int] = []
    printed = run_thaw(
        "run", JOB, "--json", on_line=heard.append, on_start=lambda process: processes.append(process.pid)
    )
    words, text = printed.split("\n", 1)
    assert words == "-m job run --json"
    assert parse_job(text) == JOB
    assert heard == ["one", "two"]
    assert len(processes) == 1


@pytest.mark.parametrize(
    ("end", "branch"),
    [
        ("exit 2", JobError),
        ("exit 3", DataError),
        ("exit 143", Interrupted),
        ("kill -9 $$", ClusterError),
        ("exit 1", ClusterError),
    ],
)
def test_its_error_is_raised_as_it_was(
    end: str, branch: type[ThawError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, f"echo noise >&2; echo 'thaw: no such backbone' >&2; {end}")
    with pytest.raises(branch, match=r"^no such backbone$"):
        run_thaw("run", JOB)


def test_an_end_without_a_word_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "exit 9")
    with pytest.raises(ClusterError, match=r"^`thaw run` ended with 9\.$"):
        run_thaw("run", JOB)
