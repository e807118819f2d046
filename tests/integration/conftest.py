from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout

import pytest

from job.cli import main
from job.executors.ray.cluster import ray_cluster
from job.jobfile import parse_job

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
"""(*words of the command line) -> exit code, standard output and standard error"""


def thaw_in_new_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "job", *words], capture_output=True, text=True)


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


@pytest.fixture(scope="session")
def cluster(s3_server: str, gcs_server: str) -> Iterator[None]:
    """Ray, started once for the runs in this process; its workers know the servers."""
    with ray_cluster(parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 2}}")):
        yield
