"""What ends a run is told in a line, wherever it happened: the first error, and what to do."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import Scene, Watched

from support.prepared import prepare_run
from support.raynodes import ray_nodes

pytestmark = pytest.mark.slow
JOB = """
name: causes
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases: {{head: {{epochs: 4, learning_rate: 3e-3}}, fine_tune: null}}
train: {{batch_size: 16}}
scaling: {{workers: 2}}
"""
AT_IMPORT = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow" and {who!r} in open("/proc/self/cmdline").read():
            {happens}

sys.meta_path.insert(0, Watch())
"""
FAILS = """raise ImportError("libstdc++.so.6: version `GLIBCXX_3.4.32' not found")"""
FILLS_MEMORY = "self.much = [b'x' * 2**26 for _ in range(1000)]"
Run = Callable[..., str]


@pytest.fixture
def fails(tmp_path: Path) -> Run:
    """Runs the job; returns its last line on standard error, which has few others, and none of a traceback."""
    command = prepare_run(tmp_path, JOB)

    def run(*changes: str, environment: dict[str, str] | None = None, status: int = 6) -> str:
        words = [word for change in changes for word in ("--set", change)]
        whole = {**os.environ, **(environment or {})}
        done = subprocess.run([*command, *words], env=whole, capture_output=True, text=True, timeout=600)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) < 20, done.stderr
        return lines[-1]

    return run


def at_import(folder: Path, who: str, happens: str) -> dict[str, str]:
    """An environment in which this happens to processes of that name as they import TensorFlow."""
    (folder / "sitecustomize.py").write_text(AT_IMPORT.format(who=who, happens=happens))
    return {"PYTHONPATH": str(folder)}


def test_a_training_worker_that_can_not_import(fails: Run, tmp_path: Path) -> None:
    told = fails(environment=at_import(tmp_path, "RayTrainWorker", FAILS))
    assert "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.32' not found" in told


def test_more_gpus_than_this_machine_has(fails: Run) -> None:
    told = fails("scaling.gpu=true", "scaling.workers=64")
    assert "scaling.gpu: true needs a GPU for each of 64 workers, and Ray finds " in told


@pytest.mark.parametrize("who", ["DecodeObjects", "Featurize"])
def test_an_extract_actor_that_can_not_import(who: str, fails: Run, tmp_path: Path) -> None:
    told = fails(environment=at_import(tmp_path, who, FAILS))
    assert "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.32' not found" in told


def test_a_node_whose_gpus_are_not_there(fails: Run) -> None:
    """Ray believes what it is told of them."""
    with ray_nodes("--num-cpus=4", "--num-gpus=2") as cluster:
        told = fails("scaling.gpu=true", environment=cluster.environment)
    assert "TensorFlow finds no GPU on " in told
    assert "Set scaling.gpu: false to train on CPUs." in told


@pytest.mark.parametrize("workers", ["8", "{min: 8, max: 9}"])
def test_a_cluster_without_room_is_waited_for_until_somebody_says_stop(workers: str, tmp_path: Path) -> None:
    command = [*prepare_run(tmp_path, JOB), "--set", f"scaling.workers={workers}"]
    with ray_nodes("--num-cpus=4") as cluster, Watched(command, Scene(tmp_path / "store"), cluster.environment) as run:
        run.until(lambda scene: scene.said("no worker is at work: waiting for 8 workers (each 1 CPU)"))
        os.kill(run.pid, signal.SIGTERM)
        run.wait()
    assert run.status == 143, run.told
    assert "Traceback" not in run.told
    assert run.told.splitlines()[-1].startswith("thaw: Stopped by SIGTERM")


@pytest.mark.parametrize("who", ["DecodeObjects", "Featurize"])
def test_an_extract_process_that_fills_the_memory(who: str, fails: Run, tmp_path: Path) -> None:
    """Whatever it does: Ray ends it once the run takes more than 6 GiB."""
    sizes = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(sizes[name]) * 1024 for name in ("MemTotal:", "MemAvailable:"))
    threshold = {"RAY_memory_usage_threshold": f"{1 - (free - 6 * 2**30) / total:.3f}"}
    often = {"RAY_memory_monitor_refresh_ms": "50"}
    environment = {**at_import(tmp_path, who, FILLS_MEMORY), **threshold, **often}
    told = fails("recovery.max_failures=1", environment=environment)
    assert told.startswith("thaw: Extracting features failed on the cluster: ")
    assert "killed due to the node running low on memory" in told
    assert told.endswith("Give its nodes more memory, or each fewer workers.")


def test_a_node_whose_memory_is_full_as_the_workers_start(fails: Run) -> None:
    """The features are stored already."""
    fails("phases.head.learning_rate=1e38", status=5)
    told = fails(environment={"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"})
    assert told.startswith("thaw: Training failed on the cluster: ")
    assert "killed due to the node running low on memory" in told
    assert told.endswith("Give its nodes more memory, or each fewer workers.")
