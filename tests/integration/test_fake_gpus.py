"""Where a run's workers are: with GPUs that a Ray cluster only says it has."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from kills import Scene, Watched, strike

from support.prepared import prepare_run
from support.raynodes import free_gpus, ray_nodes

pytestmark = pytest.mark.slow
JOB = """
name: fake
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 400, learning_rate: 1e-4, patience: 400}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 30, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 16}}
scaling: {{workers: 2, gpu: true}}
checkpoint: {{every_steps: 20, every_minutes: null}}
"""
GPUS = {"THAW_FAKE_GPU": "1", "THAW_FAKE_GPU_RATE": "200"}


def when(scene: Scene, words: str) -> float:
    """When the first line was written that says so (UNIX time)."""
    line = next(line for line in list(scene.lines) if words in line)
    return datetime.fromisoformat(json.loads(line)["time"]).timestamp()


def test_the_head_is_trained_while_gpus_are_free_and_only_fine_tuning_claims_them(tmp_path: Path) -> None:
    command, scene = prepare_run(tmp_path, JOB), Scene(tmp_path / "store")
    with ray_nodes("--num-cpus=4", "--num-gpus=2", environment=GPUS) as cluster, free_gpus(cluster) as free:
        environment = {**cluster.environment, "THAW_LOG": "json"}
        with Watched(command, scene, environment) as process:
            process.until(lambda scene: scene.reached("fine_tune", 3))
            head, handed = when(scene, "head epoch   1 "), when(scene, "workers with GPUs go on from here")
            tuning, now = when(scene, "fine-tune epoch   1 "), free[-1][0]
            strike("driver", process.pid)
            told = process.told
        assert {gpus for at, gpus in free if head <= at <= handed} == {2.0}
        assert {gpus for at, gpus in free if tuning <= at <= now} == {0.0}
        groups = ("starting 2 workers (each 1 CPU)", "starting 2 workers (each 1 CPU, 1 GPU)")
        assert [told.count(group) for group in groups] == [1, 1]
        assert "what this run trains is worth nothing" in told

        with Watched(command, scene, environment) as process:
            done = process.outcome()
    assert [done.told.count(group) for group in groups] == [0, 1], "the head is trained"
    assert "resumed from fine-tune epoch" in done.told
    assert len(set(done.digests)) == 1
    assert {phase: len(epochs) for phase, epochs in done.history.items()} == {"head": 400, "fine_tune": 31}
    assert done.result["promotion"] is None, "nobody puts such a model into use"
    assert all(epoch["input_wait"] >= 0 for epoch in done.history["fine_tune"][1:])
