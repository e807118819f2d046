"""What `scaling.executor: auto` and `scaling.workers: auto` mean, by where `thaw run` is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from job.config import Job, WorkerRange
from job.config.jobfile import parse_job
from job.errors import JobError
from job.executors import executor_of, placed, placement
from job.executors.placement import cpus_here, gpus_here, is_here, is_local, with_workers, worker_cpus

VARIABLES = ("RAY_ADDRESS", "THAW_RAYJOB", "CUDA_VISIBLE_DEVICES")
SET = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_FORCE_GPU_ALLOW_GROWTH")
"""By the embedded executor, for the process that it is in."""
CLUSTER = {"RAY_ADDRESS": "10.0.0.1:6379"}
RAYJOB = {"RAY_ADDRESS": "auto", "THAW_RAYJOB": "cells-0123456789ab"}
ASKED = "asked"
"""In place of what a cluster would answer."""
RANGE = WorkerRange(min=1, max=8)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on a cluster nor with a GPU, and no cluster is asked in earnest."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("job.executors.ray.cluster.placed_there", lambda job, debug, emit: ASKED)


def job_of(scaling: str) -> Job:
    return parse_job(f"{{name: any, data: {{source: 'file:///'}}, store: 'file:///', scaling: {{{scaling}}}}}")


def nothing(kind: str, **event: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("scaling", "variables", "wanted"),
    [
        ("", {}, ("local", 1)),
        ("workers: 1", {}, ("local", 1)),
        ("workers: {min: 1, max: 1}", {}, ("local", 1)),
        ("workers: 2", {}, ("ray", 2)),
        ("workers: {min: 1, max: 8}", {}, ("ray", RANGE)),
        ("executor: local", {}, ("local", 1)),
        ("executor: local, workers: 1", {}, ("local", 1)),
        ("executor: ray", {}, ("ray", 1)),
        ("executor: ray, workers: 1", {}, ("ray", 1)),
        ("executor: ray, workers: 3", {}, ("ray", 3)),
        ("gpu: true", {}, ("local", 1)),
        ("gpu: true", {"CUDA_VISIBLE_DEVICES": "0"}, ("local", 1)),
        ("gpu: true", {"CUDA_VISIBLE_DEVICES": "0,1"}, ("ray", 2)),
        ("", {"CUDA_VISIBLE_DEVICES": "0,1"}, ("local", 1)),
        ("gpu: true, workers: 1", {"CUDA_VISIBLE_DEVICES": "0,1"}, ("local", 1)),
        ("gpu: true, executor: local", {"CUDA_VISIBLE_DEVICES": "0,1"}, ("local", 1)),
        ("gpu: true, executor: ray", {"CUDA_VISIBLE_DEVICES": "0,1,2"}, ("ray", 3)),
        ("gpu: true, executor: ray", {}, ("ray", 1)),
        ("", CLUSTER, ASKED),
        ("gpu: true", CLUSTER, ASKED),
        ("executor: ray", CLUSTER, ASKED),
        ("workers: 1", CLUSTER, ("ray", 1)),
        ("workers: 2", CLUSTER, ("ray", 2)),
        ("workers: {min: 1, max: 8}", CLUSTER, ("ray", RANGE)),
        ("executor: local", CLUSTER, ("local", 1)),
        ("", RAYJOB, ASKED),
        ("workers: 1", RAYJOB, ("ray", 1)),
        ("workers: {min: 1, max: 8}", RAYJOB, ("ray", RANGE)),
    ],
)
def test_a_run_is_embedded_where_one_worker_is_enough(
    scaling: str, variables: dict[str, str], wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    job = job_of(scaling)
    found: Any = placed(job, False, nothing)
    assert (found if found == ASKED else (found.scaling.executor, found.scaling.workers)) == wanted
    assert is_local(job) == (wanted[0] == "local")
    assert is_here() == (not variables.get("RAY_ADDRESS"))


def test_a_rayjob_is_never_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_RAYJOB", "cells-0123456789ab")
    told = "scaling.executor: local: a RayJob runs on Ray: write auto or ray, or use `thaw run`."
    with pytest.raises(JobError) as caught, executor_of(job_of("executor: local"), False, nothing):
        pass
    assert (str(caught.value), caught.value.exit_code) == (told, 2)


def test_the_executor_is_the_one_that_the_job_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET:
        monkeypatch.setenv(name, "")
    with executor_of(job_of(""), False, nothing) as (job, executor):
        assert (type(executor).__name__, job.scaling.workers) == ("LocalExecutor", 1)
    with executor_of(job_of("workers: 2"), False, nothing) as (job, executor):
        assert (type(executor).__name__, job.scaling.workers) == ("RayExecutor", 2)


@pytest.mark.parametrize(
    ("visible", "count"),
    [
        ("", 0),
        ("-1", 0),
        ("none", 0),
        ("NoDevFiles", 0),
        ("0", 1),
        ("0,1", 2),
        ("GPU-8f, GPU-31", 2),
        ("0,-1,1", 1),
        ("1,,2", 1),
        ("-2,0", 0),
    ],
)
def test_the_gpus_that_a_process_may_use_are_counted(visible: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_here() == count


def test_what_was_resolved_is_all_that_differs() -> None:
    job = job_of("worker_price: 2")
    found = with_workers(job, "ray", RANGE, cpus=3)
    assert found.scaling.model_dump() == {**job.scaling.model_dump(), "executor": "ray", "cpus_per_worker": 3} | {
        "workers": {"min": 1, "max": 8}
    }
    assert found.meaning() == job.meaning()
    assert job.scaling.workers == "auto"
    assert with_workers(job_of("cpus_per_worker: 2"), "ray", 1, cpus=3).scaling.cpus_per_worker == 2, "as was asked for"


@pytest.mark.parametrize(
    ("scaling", "variables", "cores"),
    [
        ("executor: local, workers: 1", {}, 8),
        ("executor: local, workers: 1", CLUSTER, 8),
        ("executor: ray, workers: 3", {}, 2),
        ("executor: ray, workers: 20", {}, 1),
        ("executor: ray, workers: 3", CLUSTER, 1),
        ("executor: ray, workers: 3, cpus_per_worker: 5", {}, 5),
        ("executor: ray, workers: 3, cpus_per_worker: 5", CLUSTER, 5),
    ],
)
def test_workers_share_this_machine_and_have_a_core_on_a_cluster_unless_more_is_asked_for(
    scaling: str, variables: dict[str, str], cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(placement, "CGROUPS", tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert worker_cpus(job_of(scaling)) == cores


@pytest.mark.parametrize(
    ("files", "bound", "cores"),
    [
        ({}, 8, 8),
        ({"cpu.max": "max 100000"}, 8, 8),
        ({"cpu.max": "200000 100000"}, 8, 2),
        ({"cpu.max": "350000 100000"}, 8, 3),
        ({"cpu.max": "50000 100000"}, 8, 1),
        ({"cpu.max": "1600000 100000"}, 8, 8),
        ({"cpu.max": "400000 100000"}, 3, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8, 8),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 8, 2),
        ({"cpu.max": "nonsense"}, 8, 8),
    ],
    ids=str,
)
def test_the_cores_are_those_that_the_container_may_use(
    files: dict[str, str], bound: int, cores: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(placement, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound)))
    assert cpus_here() == cores


def test_a_process_that_is_bound_to_a_core_counts_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from job.executors.placement import cpus_here; print(cpus_here())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
