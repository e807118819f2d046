"""Runs `thaw` in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from job import errors
from job.config import Job
from job.config.jobfile import dump_job
from job.errors import ClusterError, ThawError
from job.storage.scratch import scratch

Process = subprocess.Popen[str]
ROOTS = (
    errors.JobError, errors.DataError, errors.StorageError, errors.TrainingError, errors.ClusterError,
    errors.Interrupted,
)  # fmt: skip


def run_thaw(
    verb: str,
    job: Job,
    *words: str,
    on_line: Callable[[str], None] = lambda line: None,
    on_start: Callable[[Process], None] = lambda process: None,
) -> str:
    """Runs `thaw VERB JOB words…`. Returns its standard output, and raises the error that it ended with.

    `on_line` is called with each line of its standard error, `on_start` with the process.
    """
    lines = []
    with scratch() as folder:
        file = Path(folder, "job.yaml")
        file.write_text(dump_job(job), encoding="utf-8")
        command = [sys.executable, "-m", "job", verb, str(file), *words]
        environment = {**os.environ, "THAW_LOG": "text"}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            on_start(process)
            assert process.stderr is not None
            assert process.stdout is not None
            for line in process.stderr:
                lines.append(line.rstrip())
                on_line(lines[-1])
            printed = process.stdout.read()
    if process.returncode:
        messages = [line.removeprefix("thaw: ") for line in lines if line.startswith("thaw: ")]
        branches: dict[int, type[ThawError]] = {root.exit_code: root for root in ROOTS}
        text = " ".join(messages) or f"`thaw {verb}` ended with {process.returncode}."
        raise branches.get(process.returncode, ClusterError)(text)
    return printed
