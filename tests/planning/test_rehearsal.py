"""The processes that a plan measures with: what becomes of them when one fails, and when the plan is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from job.config.jobfile import parse_job
from job.errors import ClusterError
from job.executors.placement import cpus_here
from job.features.cache_plan import Plan
from job.planning.calibration import devices_here
from job.planning.rehearsal import PhaseSpeeds, Played, Rehearsal, rehearse
from support.networks import own_base

JOB = """
name: rehearsed
data: {{source: "file://{root}/source/"}}
store: "file://{root}/store/"
model: {{backbone: "file://{root}/own.keras", image_size: 32}}
train: {{batch_size: 8}}
phases: {{head: {{epochs: 2}}, fine_tune: {{epochs: 1, unfreeze: {{blocks: 1}}}}}}
scaling: {{workers: 2}}
"""
KEPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from planning.test_rehearsal import play
if __name__ == "__main__":
    while True:
        play(Path({root!r}), "conv_0", repeats=100_000)
"""


def play(root: Path, cut: str, repeats: int = 2) -> Played:
    job = parse_job(JOB.format(root=root), [])
    pooled, inputs = np.ones((4, 16), np.float32), np.ones((4, 15, 15, 8), np.float32)
    overlay = root / "overlay"
    overlay.mkdir(exist_ok=True)
    plan = Plan(16, cut, (15, 15, 8), "float16")
    return rehearse(Rehearsal(job, plan, 2, pooled, inputs, repeats), [None, None], str(overlay))


@pytest.mark.slow
def test_two_processes_make_steps_together(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    played = play(tmp_path, "conv_0")
    assert played.start > 0
    assert played.fine_tune is not None
    assert min(played.fine_tune.step, played.fine_tune.predict) > 0


@pytest.mark.slow
def test_what_a_process_fails_with_is_told(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    with pytest.raises(ClusterError, match=r"can't be made here: .*nowhere"):
        play(tmp_path, "nowhere")


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_as_one(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    before = set(_children(os.getpid()))

    def kill() -> None:
        (one, _) = _when(lambda: [pid for pid in _workers(os.getpid()) if pid not in before], 2)
        os.kill(one, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterError, match=r"it was killed .SIGKILL., perhaps for its memory"):
        play(tmp_path, "conv_0", repeats=100_000)
    killer.join()
    assert set(_workers(os.getpid())) <= before


def test_jobs_of_more_workers_than_this_machine_has_room_for() -> None:
    def devices(memory: int, *settings: str) -> int:
        return len(devices_here(parse_job(JOB.format(root="/none"), settings), memory))

    cores = cpus_here()
    assert devices(1, f"scaling.workers={3 * cores}") == cores
    assert devices(2**60, f"scaling.workers={cores}") == 1
    assert devices(1, "scaling.workers=1") == 1
    shared = Played(1.0, PhaseSpeeds(1.0, 2.0, 3.0), None).shared(3)
    assert shared == Played(3.0, PhaseSpeeds(3.0, 6.0, 9.0), None)


@pytest.mark.slow
def test_the_processes_end_with_the_plan(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    (tmp_path / "kept.py").write_text(KEPT.format(tests=str(Path(__file__).parents[1]), root=str(tmp_path)))
    plan = subprocess.Popen([sys.executable, tmp_path / "kept.py"], start_new_session=True)
    try:
        workers = _when(lambda: _workers(plan.pid), 2)
    finally:
        plan.kill()
        plan.wait()
    _when(lambda: [one for one in workers if _threads(one) > 0], 0)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _workers(pid: int) -> list[int]:
    """Its children in which TensorFlow is at work."""
    return [one for one in _children(pid) if _threads(one) > 8]


def _threads(pid: int) -> int:
    """0 of a process that has ended, though nobody may have asked for its exit code."""
    try:
        found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except FileNotFoundError:
        return 0
    return 0 if "zombie" in found["State"] else int(found["Threads"])


def _when(found: Callable[[], list[int]], count: int) -> list[int]:
    """What is found, once it is so many."""
    for _ in range(1200):
        if len(some := found()) == count:
            return some
        time.sleep(0.1)
    raise AssertionError(f"not {count}: {found()}")
