"""The processes that a plan measures with: what becomes of them when one fails, and when the plan is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from networks import own_base

from job.errors import ClusterError
from job.jobfile import parse_job
from job.run.forecast.rehearsal import Played, Rehearsal, rehearse
from job.run.plan import Plan

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
from run.forecast.test_rehearsal import play
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
    return rehearse(Rehearsal(job, plan, 2, pooled, inputs, repeats), 2, str(overlay))


def test_two_processes_make_steps_together(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    played = play(tmp_path, "conv_0")
    assert played.start > 0
    assert played.fine_tune is not None
    assert min(played.fine_tune.step, played.fine_tune.predict) > 0


def test_what_a_process_fails_with_is_told(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    with pytest.raises(ClusterError, match=r"exit code 1.*nowhere"):
        play(tmp_path, "nowhere")


def test_the_processes_end_with_the_plan(tmp_path: Path) -> None:
    own_base(tmp_path / "own.keras")
    (tmp_path / "kept.py").write_text(KEPT.format(tests=str(Path(__file__).parents[2]), root=str(tmp_path)))
    plan = subprocess.Popen([sys.executable, tmp_path / "kept.py"], start_new_session=True)
    try:
        workers = _when(lambda: [one for one in _children(plan.pid) if _threads(one) > 8], 2)  # TensorFlow is at work
    finally:
        plan.kill()
        plan.wait()
    _when(lambda: [one for one in workers if _threads(one) > 0], 0)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
