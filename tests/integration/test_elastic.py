"""Nodes that are lost, drained and added while a run trains: the same batches, whatever the number of workers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kills import Outcome, Scene, Watched, run_with_kills

from support.prepared import prepare_run
from support.raynodes import Cluster, ray_nodes

pytestmark = pytest.mark.slow
JOB = """
name: elastic
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 1000, learning_rate: 1e-4, patience: 1000}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 5, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 16}}
scaling: {{workers: {{min: 1, max: 2}}, cpus_per_worker: 2}}
checkpoint: {{every_steps: 50, every_minutes: null}}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its head has room for one worker; each node that is added has room for another."""
    with ray_nodes("--num-cpus=3") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_with_kills(prepare_run(folder, JOB), folder / "store")


def same_curve(done: Outcome, undisturbed: Outcome, head: int, fine_tune: int) -> None:
    """So many epochs of each phase, like the first ones of the undisturbed run."""
    assert {phase: len(made) for phase, made in done.history.items()} == {"head": head, "fine_tune": fine_tune}
    for phase, count in (("head", head), ("fine_tune", fine_tune)):
        for name in ("loss", "validation_loss"):
            mine, others = (run.history[phase][:count] for run in (done, undisturbed))
            mine, others = ([epoch.get(name, np.nan) for epoch in curve] for curve in (mine, others))
            np.testing.assert_allclose(mine, others, rtol=1e-3)
    assert len(set(done.digests)) == 1, "each epoch saw each example once"


def test_two_workers_then_one_then_two_have_the_loss_curve_of_two(
    cluster: Cluster, undisturbed: Outcome, tmp_path: Path
) -> None:
    second = cluster.add("--num-cpus=2")
    time.sleep(5)
    scene = Scene(tmp_path / "store")
    with Watched(prepare_run(tmp_path, JOB), scene, cluster.environment) as process:
        for workers, happens in ((2, second.lose), (1, lambda: cluster.add("--num-cpus=2")), (2, lambda: None)):
            words = f"training on {workers} worker"
            process.until(lambda scene: scene.said(words))  # noqa: B023
            told = next(line for line in scene.lines if words in line)
            assert ("from the start" if happens == second.lose else "resumed from head epoch") in told
            epoch = max((entry["epoch"] for entry in scene.checkpoints()), default=0)
            process.until(lambda scene: scene.reached("head", epoch + 40))  # noqa: B023
            scene.lines.clear()
            happens()
        done = process.outcome()
    same_curve(done, undisturbed, head=1000, fine_tune=6)


def test_a_node_that_is_drained_gives_time_for_a_checkpoint_and_is_no_failure(
    cluster: Cluster, undisturbed: Outcome, tmp_path: Path
) -> None:
    """As a pod on a spot instance goes: it gives notice, and is gone once nothing works there any more."""
    second = cluster.add("--num-cpus=2")
    time.sleep(5)
    changes = ("checkpoint.every_steps=null", "recovery.max_failures=0", "recovery.max_preemption_failures=1")
    changes += ("phases.head.epochs=400", "phases.fine_tune=null")
    command = prepare_run(tmp_path, JOB) + [word for change in changes for word in ("--set", change)]
    scene = Scene(tmp_path / "store")
    with Watched(command, scene, cluster.environment) as process:
        process.until(lambda scene: scene.said("training on 2 workers") and scene.said("head epoch"))
        assert scene.checkpoints() == []
        drained = second.drain(seconds=120)
        process.until(lambda scene: bool(scene.checkpoints()))
        assert not scene.said("training on 1 worker"), "the checkpoint is that of the group which got the notice"
        (entry,) = scene.checkpoints()
        assert drained.wait() == 0, "nothing of the run is left there, before the notice is over"
        second.lose()
        process.until(lambda scene: scene.said("training on 1 worker"))
        told = next(line for line in scene.lines if "training on 1 worker" in line)
        assert re.search(rf"resumed from head epoch {entry['epoch']}\b", told), "not a step is lost"
        done = process.outcome()
    assert entry["phase"] == "head"
    same_curve(done, undisturbed, head=400, fine_tune=0)
