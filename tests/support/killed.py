"""A run for tests that kill it: many short epochs, and a checkpoint after every few steps."""

from __future__ import annotations

import fcntl
import os
import random
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from kills import Outcome, Scene, Watched

from job.storage.filesystem import LOCK

JOB = """
name: killed
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 24, learning_rate: 3e-3, patience: 24, optimizer: adamw}}
  fine_tune:
    unfreeze: {{from: conv_1}}
    epochs: 24
    learning_rate: 1e-3
    optimizer: adamw
    schedule: cosine
    allow_unconverged_head: true
augment: {{flip_horizontal: true, flip_vertical: true}}
train: {{batch_size: 16, views: 2, cache: "on"}}
checkpoint: {{every_steps: 4, every_minutes: null, keep: 2}}
recovery: {{max_failures: 20}}
"""
BLOCKS = JOB.replace("{{from: conv_1}}", "{{auto: {{confidence: 0.51}}}}").replace("epochs: 24", "epochs: 12")
"""The same with two blocks, one after another: epochs 1 to 12 of fine-tuning are the first one's."""

Start = Callable[[list[str]], Watched]
"""Starts an attempt at the run of a test's folder."""


def reached(phase: str, epoch: int) -> Callable[[Scene], bool]:
    """A checkpoint of this phase and epoch, or a later one, is listed."""
    return lambda scene: scene.reached(phase, epoch)


def uploading(phase: str, epoch: int) -> Callable[[Scene], bool]:
    """The same, and another checkpoint is being written."""
    return lambda scene: scene.said("training on") and scene.is_uploading() and scene.reached(phase, epoch)


def epochs(chance: random.Random) -> list[int]:
    """Four in ascending order: after the last, one upload must still be seen from outside, which takes milliseconds."""
    return sorted(chance.sample(range(1, 12), 4))


def stop(processes: Iterable[int], store: Path) -> None:
    """SIGSTOP, while none of them has the run's state locked: others could not take the run over then."""
    (run,) = (store / "runs").iterdir()
    with open(run / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for process in processes:
            os.kill(process, signal.SIGSTOP)


def left_by_killed_attempts(done: Outcome) -> list[Path]:
    """Files of exports other than the run's model."""
    model = Path(done.result["model"].removeprefix("file://"))
    return [file for file in model.parent.rglob("*") if file.is_file() and not file.is_relative_to(model)]


def written(store: Path) -> dict[str, int]:
    """When each file was written last."""
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
