"""Both phases of real networks in one process: a strategy of one worker, no Ray."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from job.errors import CorruptCheckpoint, Interrupted, NotFinite, TrainingError
from job.model.network import Network, variables_by_path
from job.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from job.training.convergence import EarlyStopping
from job.training.factory import PhaseFactory
from job.training.measure import Score
from job.training.optimization import PhaseOptimizer
from job.training.phase import Phase
from job.training.phases import Trained, WarmWeights, hand_over_head
from job.training.step import make_train_steps
from support.bench import job_of, set_up, team
from support.cases import slow

OWN = "file:///own.keras"
"""A small network: what is tested depends on no family."""


def curves(trained: Trained) -> list[tuple[float | None, float]]:
    return [(epoch.loss, epoch.validation_loss) for phase in trained.history.values() for epoch in phase]


def bytes_of(network: Network) -> dict[str, bytes]:
    return {path: variable.numpy().tobytes() for path, variable in variables_by_path(network.model).items()}


@pytest.mark.parametrize(
    ("backbone", "thawed"),
    [
        (OWN, ("conv_1/", "norm_1/")),
        *slow(("mobilenetv2", ("block_16_", "Conv_1")), ("vgg19", ("block5_",)), ("resnet50", ("conv5_block3_",))),
    ],
)
def test_only_what_was_thawed_moves_and_batch_norm_never(
    backbone: str, thawed: tuple[str, ...], tmp_path: Path
) -> None:
    job = job_of(backbone)
    bench = set_up(job, tmp_path)
    network = bench.network
    before = bytes_of(network)
    saved: list[Checkpoint] = []
    trained = bench.train(job, "fine_tune", saved)
    last = {**before, **{path: value.tobytes() for path, value in trained.fine_tuned.items()}}
    moved = {path for path in before if last[path] != before[path] or bytes_of(network)[path] != before[path]}
    assert all(path.startswith((*thawed, "head_")) for path in moved)
    assert not any("_bn/" in path.lower() or "norm_" in path for path in moved)
    ended = saved[-1].weights
    assert any(path.startswith(thawed[0]) for path in ended)
    assert all(value.tobytes() != before[path] for path, value in ended.items() if path.endswith("kernel"))
    assert {path for path in trained.fine_tuned if "/kernel" in path} > {"head_logits/kernel"}
    assert [record.epoch for record in trained.history["fine_tune"]] == [0, 1, 2]


def test_an_unconverged_head_is_not_fine_tuned_unless_the_job_says_so(tmp_path: Path) -> None:
    job = job_of(OWN, "phases.fine_tune.allow_unconverged_head=false")
    bench = set_up(job, tmp_path)
    with pytest.raises(TrainingError, match=r"not converged in phases\.head\.epochs \(2\)"):
        bench.train(job, "fine_tune", [])


@pytest.mark.parametrize("allowed", [False, True])
def test_a_head_that_others_fine_tune_ends_with_the_checkpoint_that_they_go_on_from(
    allowed: bool, tmp_path: Path
) -> None:
    """Who hands it over trains nothing else; an unconverged one is refused before and after it was handed over."""
    job = job_of(OWN, f"phases.fine_tune.allow_unconverged_head={str(allowed).lower()}")
    whole: list[Checkpoint] = []
    if allowed:
        set_up(job, tmp_path / "whole").train(job, "fine_tune", whole)
    saved: list[Checkpoint] = []
    for resumed in (None, -1):  # the second time the head is trained already
        bench = set_up(job, tmp_path / f"head {resumed}")
        factory = PhaseFactory(job, bench.network, bench.data, inputs=bench.inputs, team=team(job, saved, None))
        refused = nullcontext() if allowed else pytest.raises(TrainingError, match="not converged")
        with refused:
            hand_over_head(factory, resumed=None if resumed is None else saved[resumed], warm=None)
        assert (saved[-1].progress.phase, saved[-1].progress.finished) == ("head", True)
    if allowed:
        others: list[Checkpoint] = []
        trained = set_up(job, tmp_path / "others").train(job, "fine_tune", others, saved[-1])
        assert trained.fine_tuned is not None
        assert bytes_of_tensors(others[-1].weights) == bytes_of_tensors(whole[-1].weights)


def bytes_of_tensors(tensors: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {path: value.tobytes() for path, value in tensors.items()}


def test_a_head_converges_when_its_patience_is_reached() -> None:
    stopping = EarlyStopping(patience=2)
    for epoch, loss in enumerate([3.0, 2.0, 2.5, 2.0], start=1):
        assert not stopping.converged
        stopping = stopping.after(epoch, loss)
    assert stopping.converged
    assert (stopping.best_epoch, stopping.best_loss) == (2, 2.0)


def test_a_loss_that_is_not_finite_names_the_step_and_the_cure(tmp_path: Path) -> None:
    job = job_of(OWN, "phases.head.learning_rate=1e38")
    bench = set_up(job, tmp_path)
    with pytest.raises(NotFinite, match=r"not finite at step \d of epoch \d, on examples \[\d+, .*Lower phases\.head"):
        bench.train(job, "head", [])


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the last step tells nothing of what that step has made of the weights."""
    job = job_of(OWN, "checkpoint.every_steps=2")

    def overflowing(strategy: Any, spec: Any, *, optimizer: PhaseOptimizer, **others: Any) -> Any:
        steps = make_train_steps(strategy, spec, optimizer=optimizer, **others)
        first = next(iter(optimizer.variables.values()))
        return lambda *batch: (steps(*batch), first.assign(first + np.inf))[0]

    monkeypatch.setattr("job.training.phase.make_train_steps", overflowing)
    saved: list[Checkpoint] = []
    with pytest.raises(NotFinite, match=r"head: its weights are not finite at step 2 of epoch 1, on examples \["):
        set_up(job, tmp_path).train(job, "head", saved)
    assert saved == []


def test_a_signal_is_heard_during_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf.config.experimental.enable_op_determinism()
    job = job_of(OWN, "checkpoint.every_minutes=null")
    whole = set_up(job, tmp_path / "whole").train(job, "head", [])
    saved: list[Checkpoint] = []
    asked = threading.Event()
    validate = Phase.validate

    def validating(self: Phase, **named: Any) -> Score:
        asked.set()
        return validate(self, **named)

    stopped = set_up(job, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Phase, "validate", validating)
        with pytest.raises(Interrupted):
            stopped.train(job, "head", saved, stop=asked)
    (kept,) = saved
    assert (kept.progress.epoch, kept.progress.step) == (0, 3), "all steps of the first epoch are made"
    resumed = set_up(job, tmp_path / "resumed").train(job, "head", saved, through_a_file(kept, tmp_path))
    assert curves(resumed) == curves(whole)
    assert digests(resumed) == digests(whole)


def test_mixing_changes_what_is_learned_and_no_order(tmp_path: Path) -> None:
    def trained(*settings: str) -> Trained:
        job = job_of(OWN, *settings)
        return set_up(job, tmp_path / f"{len(settings)}", sizes=(40, 8, 4)).train(job, "head", [])

    plain, mixed = trained(), trained("phases.head.mixup=0.4")
    assert digests(plain) == digests(mixed)
    assert all(one != other for one, other in zip(curves(plain), curves(mixed), strict=True))
    assert all(np.isfinite(loss) for _, loss in curves(mixed))


@pytest.mark.parametrize(
    ("backbone", "stop", "cut"),
    [(OWN, 0, None), (OWN, 4, "re_lu"), *slow(("mobilenetv2", 4, "block_15_add"))],
)
def test_every_checkpoint_leads_to_the_same_end(backbone: str, stop: int, cut: str | None, tmp_path: Path) -> None:
    """Resuming through a checkpoint's file, in the middle of an epoch or after one, ends with the same bytes."""
    tf.config.experimental.enable_op_determinism()
    settings = ["phases.fine_tune.optimizer=adamw", "phases.fine_tune.schedule=cosine", "checkpoint.every_steps=2"]
    settings += ["phases.head.mixup=0.2", "phases.fine_tune.mixup=0.2"]
    job = job_of(backbone, *settings)
    saved: list[Checkpoint] = []
    whole = set_up(job, tmp_path / "whole", cut).train(job, "fine_tune", saved)
    steps = [(c.progress.phase, c.progress.epoch, c.progress.step) for c in saved]
    one_phase = [(0, 2), (1, 1), (2, 0)]  # of two epochs of three steps
    assert steps == [(phase, *where) for phase in ("head", "fine_tune") for where in one_phase]
    resumed = set_up(job, tmp_path / "resumed", cut).train(job, "fine_tune", [], through_a_file(saved[stop], tmp_path))
    assert resumed.fine_tuned.keys() == whole.fine_tuned.keys()
    assert curves(resumed) == curves(whole)
    assert digests(resumed) == digests(whole)
    assert not whole.converged
    assert not resumed.converged, "a head that was fine-tuned though it had not converged"
    different = [
        path for path, value in whole.fine_tuned.items() if resumed.fine_tuned[path].tobytes() != value.tobytes()
    ]
    assert different == []
    assert resumed.logits["head"].tobytes() == whole.logits["head"].tobytes()


def through_a_file(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    return read_checkpoint(folder / "checkpoint", "here", write_checkpoint(folder / "checkpoint", checkpoint))


def digests(trained: Trained) -> list[str]:
    return [epoch.digest for phase in trained.history.values() for epoch in phase if epoch.digest]


def test_asked_to_stop_it_keeps_the_step_it_has_reached_and_goes_on_from_there(tmp_path: Path) -> None:
    tf.config.experimental.enable_op_determinism()
    job = job_of(OWN)
    whole = set_up(job, tmp_path / "whole").train(job, "fine_tune", [])
    saved: list[Checkpoint] = []
    asked = threading.Event()
    asked.set()  # from the first step on: an attempt gets no further than one call
    for attempt in range(2):
        bench = set_up(job, tmp_path / f"attempt-{attempt}")
        with pytest.raises(Interrupted):
            bench.train(job, "fine_tune", saved, through_a_file(saved[-1], tmp_path) if saved else None, asked)
        assert saved[-1].progress.step > 0
    bench = set_up(job, tmp_path / "last")
    last = bench.train(job, "fine_tune", saved, through_a_file(saved[-1], tmp_path))
    assert curves(last) == curves(whole)
    assert all(last.fine_tuned[path].tobytes() == value.tobytes() for path, value in whole.fine_tuned.items())


def test_fine_tuning_goes_on_from_the_layers_of_another_model(tmp_path: Path) -> None:
    """Its own rate is so small that nothing moves: what it ends with is what it began with."""
    tuned = "phases.fine_tune={unfreeze: {from: conv_1}, epochs: 3, learning_rate: 1e-2, allow_unconverged_head: true}"
    job = job_of(OWN, tuned)
    before = set_up(job, tmp_path / "before", sizes=(40, 20, 5)).train(job, "fine_tune", [])
    assert before.kept == "fine_tune"
    still = ("phases.fine_tune.warm_epochs=1", "phases.head.warm_start=true", "phases.fine_tune.learning_rate=1e-30")
    job = job_of(OWN, tuned, *still, "phases.head.learning_rate=1e-30")
    warm = WarmWeights(["a", "b"], ["a", "b"], before.head, before.fine_tuned)
    after = set_up(job, tmp_path / "after", sizes=(40, 20, 5)).train(job, "fine_tune", [], warm=warm)
    assert after.kept == "fine_tune"
    assert {path: v.tobytes() for path, v in after.head.items()} == {p: v.tobytes() for p, v in before.head.items()}
    assert after.logits["fine_tune"] == pytest.approx(before.logits["fine_tune"], abs=1e-4)
    assert [record.epoch for record in after.history["fine_tune"]] == [0, 1]
    best = min(record.validation_loss for record in before.history["fine_tune"])
    assert after.history["fine_tune"][0].validation_loss == pytest.approx(best, rel=1e-5)


def test_a_checkpoint_that_is_not_what_was_written_is_refused_by_name(tmp_path: Path) -> None:
    job = job_of(OWN)
    saved: list[Checkpoint] = []
    set_up(job, tmp_path / "bench").train(job, "head", saved)
    file = tmp_path / "checkpoint"
    digest = write_checkpoint(file, saved[0])
    assert read_checkpoint(file, "uri", digest).progress == saved[0].progress
    whole = file.read_bytes()
    for broken in (whole[:-1], whole[:100], b"", bytes([*whole[:-1], whole[-1] ^ 1])):
        file.write_bytes(broken)
        with pytest.raises(CorruptCheckpoint, match=r"uri is not what was written"):
            read_checkpoint(file, "uri", digest)


def test_changed_trainable_variables_are_reported_not_guessed() -> None:
    import keras

    from job.training.checkpoint import restore

    told: list[str] = []
    kept, fresh, other = (keras.Variable(np.zeros(n, np.float32)) for n in (2, 2, 3))
    tensors = {"kept": np.ones(2, np.float32), "other": np.ones(2, np.float32), "gone": np.ones(2, np.float32)}
    restore({"kept": kept, "fresh": fresh, "other": other}, tensors, what="head", log=told.append)
    assert kept.numpy().tolist() == [1, 1]
    assert fresh.numpy().tolist() == [0, 0]
    assert told == [
        "head: fresh starts fresh (not in the checkpoint)",
        "head: other starts fresh (another shape)",
        "head: gone is in the checkpoint but no longer trained",
    ]


@pytest.mark.parametrize("backbone", [OWN, *slow("mobilenetv2")])
def test_mixed_precision_trains_on_the_cpu(backbone: str, tmp_path: Path) -> None:
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        job = job_of(backbone, "train.precision=mixed_bfloat16", "train.class_weights=auto")
        saved: list[Checkpoint] = []
        trained = set_up(job, tmp_path).train(job, "fine_tune", saved)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(trained.logits["fine_tune"]).all()
    assert {value.dtype for value in saved[-1].weights.values()} == {np.dtype("float32")}
