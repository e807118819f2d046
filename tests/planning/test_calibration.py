"""What a plan measures: the run's own parts, in this process, for all workers that share this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from job.config.jobfile import parse_job
from job.executors.placement import cpus_here
from job.features.cache_plan import Plan
from job.model.anatomy import anatomy_of
from job.planning.calibration import Speeds, calibrated, measured_share
from job.planning.costs import phases
from job.planning.planned import PlannedNetwork, PlannedRun
from job.storage import open_store
from support.images import picture
from support.networks import own_base

JOB = """
name: measured
data: {{source: "file://{root}/source/"}}
store: "file://{root}/store/"
model: {{backbone: "file://{root}/own.keras", image_size: 32}}
train: {{batch_size: 8, views: 2, precision: mixed_bfloat16}}
augment: {{flip_horizontal: true}}
phases:
  head: {{epochs: 2, learning_rate: auto, mixup: 0.2}}
  fine_tune: {{epochs: 1, optimizer: adamw, unfreeze: {{from: conv_1}}}}
scaling: {{workers: 2}}
"""
PLAN = Plan(16, "re_lu", (15, 15, 8), "float16")
ENCODED = [picture(at, "red") for at in range(3)]
TRUNCATED = ENCODED[0][: len(ENCODED[0]) // 2]


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., tuple[Speeds | None, str]]:
    """Measures the job with these settings, and a plan."""
    own_base(tmp_path / "own.keras")

    def measured(*settings: str, plan: Plan = PLAN, encoded: list[bytes] = ENCODED) -> tuple[Speeds | None, str]:
        job = parse_job(JOB.format(root=tmp_path), settings)
        store = open_store(job.store)
        network = PlannedNetwork(job, store, lambda event: None)
        base, made = network.made
        anatomy = anatomy_of(made, None)
        run = PlannedRun(job, None, base, plan, anatomy, prepared=True, words=None)
        return calibrated(
            run,
            phases(job, plan, anatomy, classes=2, last_epochs={}, words=None),
            store,
            network=network,
            encoded=encoded,
            classes=2,
        )

    return measured


def test_a_job_is_measured_and_the_process_computes_as_before(measure: Callable) -> None:
    policy = keras.config.dtype_policy()
    speeds, note = measure(encoded=[TRUNCATED, *ENCODED])
    assert note == ""
    assert min(speeds.decode, speeds.network, speeds.start, speeds.head.predict, speeds.fine_tune.predict) > 0
    assert min(speeds.head.compile, speeds.fine_tune.compile) > 0
    assert speeds.notes[0].startswith("measured in one process: 2 workers are assumed to be as fast on the same")
    assert keras.config.dtype_policy() == policy


@pytest.mark.slow
def test_an_embedded_run_assumes_nothing_and_long_steps_are_measured_on_fewer_examples(
    measure: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.planning.calibration.LONGEST", 1e-9)
    uncut = replace(PLAN, cut=None, shape=())
    speeds, _ = measure("scaling={workers: 1, executor: local}", "train.cache=off", plan=uncut)
    assert speeds.fine_tune.predict > 0
    assert not any("assumed" in told for told in speeds.notes)
    assert "a fine-tuning step was measured on 1 of its 8 examples" in speeds.notes


@pytest.mark.slow
def test_a_phase_that_the_run_has_not_is_not_measured(measure: Callable) -> None:
    """Nor what a picture is that can't be decoded: all have the same shape."""
    speeds, _ = measure("phases.fine_tune=null", encoded=[TRUNCATED])
    assert speeds.fine_tune is None
    assert min(speeds.network, speeds.head.predict) > 0


def test_why_nothing_was_measured_is_told(measure: Callable) -> None:
    assert measure(plan=replace(PLAN, cut="nowhere"))[1].startswith("a worker's steps can't be made here: ")
    assert measure(encoded=[]) == (None, "none of the sampled examples can be decoded: nothing was measured")
    gpu = measure("scaling.gpu=true")
    assert gpu == (None, "scaling.gpu: true, and this machine has no GPU: nothing was measured")


def test_what_is_measured_for_the_workers_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(*settings: str) -> tuple[int, int]:
        return measured_share(parse_job(JOB.format(root="/none"), settings))[:2]

    cores = cpus_here()
    assert share(f"scaling.workers={3 * cores}") == (cores, 8)
    assert share("scaling.workers=1", "scaling.cpus_per_worker=1") == (1, 8)
    assert share("scaling.gpu=true") == (max(1, cores // 2), 4)
    monkeypatch.setenv("RAY_ADDRESS", "ray://far:10001")
    assert share("scaling.cpus_per_worker=3") == (3, 4)
    assert "one worker was measured: 2 are assumed" in measured_share(parse_job(JOB.format(root="/none"), [])).assumed
