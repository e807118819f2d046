"""Both phases of real networks in one process: a strategy of one worker, no Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bench import job_of, set_up

from job.errors import StorageError, TrainingError
from job.model.network import Network, variables_by_path
from job.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from job.train.convergence import EarlyStopping
from job.train.phases import Trained


def curves(trained: Trained) -> list[tuple[float | None, float]]:
    return [(epoch.get("loss"), epoch["validation_loss"]) for phase in trained.history.values() for epoch in phase]


def bytes_of(network: Network) -> dict[str, bytes]:
    return {path: variable.numpy().tobytes() for path, variable in variables_by_path(network.model).items()}


@pytest.mark.parametrize(("backbone", "thawed"), [("vgg19", "block5_"), ("resnet50", "conv5_block3_")])
def test_only_what_was_thawed_moves_and_batch_norm_never(backbone: str, thawed: str, tmp_path: Path) -> None:
    job = job_of(backbone)
    bench = set_up(job, tmp_path)
    network = bench.network
    before = bytes_of(network)
    trained = bench.train(job, "fine_tune", [])
    last = {**before, **{path: value.tobytes() for path, value in trained.fine_tuned.items()}}
    moved = {path for path in before if last[path] != before[path] or bytes_of(network)[path] != before[path]}
    assert all(path.startswith((thawed, "head_")) for path in moved)
    assert not any("_bn/" in path for path in moved)
    assert {path for path in trained.fine_tuned if "/kernel" in path} > {"head_logits/kernel"}
    assert [record["epoch"] for record in trained.history["fine_tune"]] == [0, 1, 2]


def test_fine_tuning_really_trains_the_thawed_layers(tmp_path: Path) -> None:
    job = job_of("mobilenetv2")
    bench = set_up(job, tmp_path)
    saved: list[Checkpoint] = []
    before = {path: v.numpy() for path, v in variables_by_path(bench.network.model).items()}
    bench.train(job, "fine_tune", saved)
    weights = saved[-1].weights
    assert all((weights[path] != before[path]).any() for path in weights if path.endswith("kernel"))
    assert any(path.startswith("block_16_") for path in weights)


def test_an_unconverged_head_is_not_fine_tuned_unless_the_job_says_so(tmp_path: Path) -> None:
    job = job_of("mobilenetv2", "phases.fine_tune.allow_unconverged_head=false")
    bench = set_up(job, tmp_path)
    with pytest.raises(TrainingError, match=r"not converged in phases\.head\.epochs \(2\)"):
        bench.train(job, "fine_tune", [])


def test_a_head_converges_when_its_patience_is_reached() -> None:
    stopping = EarlyStopping(patience=2)
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.0], start=1):
        assert not stopping.converged
        stopping = stopping.after(epoch, loss)
    assert stopping.converged
    assert (stopping.best_epoch, stopping.best_loss) == (2, 2.0)


def test_a_loss_that_is_not_finite_names_the_step_and_the_cure(tmp_path: Path) -> None:
    job = job_of("mobilenetv2", "phases.head.learning_rate=1e38")
    bench = set_up(job, tmp_path)
    with pytest.raises(TrainingError, match=r"not finite.*epoch \d.*Lower phases\.head\.learning_rate"):
        bench.train(job, "head", [])


@pytest.mark.parametrize(("stop", "cut"), [(1, None), (3, None), (2, "block_15_add")])
def test_every_checkpoint_leads_to_the_same_end(stop: int, cut: str | None, tmp_path: Path) -> None:
    """Resuming from the checkpoint after any epoch, through its files, ends with the same bytes."""
    tf.config.experimental.enable_op_determinism()
    job = job_of("mobilenetv2", "phases.fine_tune.optimizer=adamw", "phases.fine_tune.schedule=cosine")
    saved: list[Checkpoint] = []
    whole = set_up(job, tmp_path / "whole", cut).train(job, "fine_tune", saved)
    assert len(saved) == 4
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    write_checkpoint(checkpoint, saved[stop - 1])
    resumed = set_up(job, tmp_path / "resumed", cut).train(job, "fine_tune", [], read_checkpoint(checkpoint, "here"))
    assert resumed.fine_tuned.keys() == whole.fine_tuned.keys()
    assert curves(resumed) == curves(whole)
    different = [
        path for path, value in whole.fine_tuned.items() if resumed.fine_tuned[path].tobytes() != value.tobytes()
    ]
    assert different == []
    assert resumed.logits["head"].tobytes() == whole.logits["head"].tobytes()


@pytest.mark.parametrize("name", ["weights.safetensors", "progress.json", "optimizer.safetensors"])
def test_a_checkpoint_that_was_cut_short_is_refused_by_name(name: str, tmp_path: Path) -> None:
    job = job_of("mobilenetv2")
    saved: list[Checkpoint] = []
    set_up(job, tmp_path / "bench").train(job, "head", saved)
    tmp_path = tmp_path / "checkpoint"
    tmp_path.mkdir()
    write_checkpoint(tmp_path, saved[0])
    assert read_checkpoint(tmp_path, "uri").progress == saved[0].progress
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.raises(StorageError, match=name):
        read_checkpoint(tmp_path, "uri")
    (tmp_path / "complete.json").unlink()
    with pytest.raises(StorageError, match="not a complete checkpoint"):
        read_checkpoint(tmp_path, "uri")


def test_changed_trainable_variables_are_reported_not_guessed() -> None:
    import keras

    from job.train.checkpoint import restore

    told: list[str] = []
    kept, fresh, other = (keras.Variable(np.zeros(n, np.float32)) for n in (2, 2, 3))
    tensors = {"kept": np.ones(2, np.float32), "other": np.ones(2, np.float32), "gone": np.ones(2, np.float32)}
    restore({"kept": kept, "fresh": fresh, "other": other}, tensors, "head", told.append)
    assert kept.numpy().tolist() == [1, 1]
    assert fresh.numpy().tolist() == [0, 0]
    assert told == [
        "head: fresh starts fresh (not in the checkpoint)",
        "head: other starts fresh (another shape)",
        "head: gone is in the checkpoint but no longer trained",
    ]


def test_mixed_precision_trains_on_the_cpu(tmp_path: Path) -> None:
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        job = job_of("mobilenetv2", "train.precision=mixed_bfloat16", "train.class_weights=auto")
        saved: list[Checkpoint] = []
        trained = set_up(job, tmp_path).train(job, "fine_tune", saved)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(trained.logits["fine_tune"]).all()
    assert {value.dtype for value in saved[-1].weights.values()} == {np.dtype("float32")}
