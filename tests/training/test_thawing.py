"""`unfreeze: auto` in one process: two blocks of a small network of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from job.config import Job
from job.model.network import variables_by_path
from job.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from job.training.phase import Phase
from job.training.phases import Trained
from support.bench import Bench, job_of, set_up
from support.cases import slow

CONV_0, CONV_1 = "conv_0/kernel", "conv_1/kernel"


def job(*overrides: str) -> Job:
    return job_of(
        "file:///own.keras",
        "phases.fine_tune={unfreeze: auto, epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}",
        "checkpoint.every_steps=2",
        *overrides,
    )


def bench(job: Job, folder: Path) -> Bench:
    return set_up(job, folder, sizes=(24, 12, 4))


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the bootstrap says of each block, where there are any."""
    found: list[float] = []
    monkeypatch.setattr("job.training.thawing.share_of_gains", lambda gains, seed: found.pop(0))
    return found


def train(job: Job, folder: Path, saved: list[Checkpoint], resumed: Checkpoint | None = None) -> tuple[Trained, Bench]:
    made = bench(job, folder)
    return made.train(job, "fine_tune", saved, resumed), made


def test_blocks_are_thawed_from_the_top_while_they_pay(shares: list[float], tmp_path: Path) -> None:
    shares[:] = [0.96, 0.97]
    trained, _ = train(job(), tmp_path, [])
    assert [(block.blocks, block.block, block.pays) for block in trained.thawed] == [
        (1, "conv_1", True),
        (2, "conv_0", True),
    ]
    assert trained.kept == "fine_tune"
    assert {CONV_0, CONV_1} < trained.fine_tuned.keys()
    records = trained.history["fine_tune"]
    assert [(record.epoch, record.blocks) for record in records] == [
        (0, None),
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
    ]
    assert [first.after <= first.before for first in trained.thawed] == [True, True]
    assert trained.thawed[1].before == trained.thawed[0].after, "each starts from the best so far"


def test_the_first_block_that_does_not_pay_is_frozen_again_as_it_was(shares: list[float], tmp_path: Path) -> None:
    shares[:] = [0.96, 0.94]
    job_, alone = job(), job("phases.fine_tune.unfreeze={auto: {max_blocks: 1}}")
    trained, made = train(job_, tmp_path / "both", [])
    shares[:] = [0.96]
    one, _ = train(alone, tmp_path / "one", [])
    assert [block.pays for block in trained.thawed] == [True, False]
    assert trained.fine_tuned.keys() == one.fine_tuned.keys()
    assert CONV_0 not in trained.fine_tuned
    assert all(np.array_equal(trained.fine_tuned[path], value) for path, value in one.fine_tuned.items())
    assert trained.logits["fine_tune"].tobytes() == one.logits["fine_tune"].tobytes()
    fresh = variables_by_path(bench(job_, tmp_path / "fresh").network.model)
    now = variables_by_path(made.network.model)
    assert now[CONV_0].numpy().tobytes() == fresh[CONV_0].numpy().tobytes()
    assert [path for path, v in now.items() if v.trainable and path.startswith("conv_0")] == []


def test_where_no_block_pays_the_head_alone_is_kept(shares: list[float], tmp_path: Path) -> None:
    shares[:] = [0.5]
    trained, _ = train(job(), tmp_path, [])
    assert (trained.kept, len(trained.thawed)) == ("head", 1)
    assert trained.fine_tuned.keys() == trained.head.keys()
    assert all(np.array_equal(trained.fine_tuned[path], value) for path, value in trained.head.items())
    assert trained.logits["fine_tune"] == pytest.approx(trained.logits["head"], abs=1e-5)


def test_deeper_blocks_learn_at_lower_rates_and_slots_are_carried_over(
    shares: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares[:] = [0.96, 0.96]
    phases: list[Phase] = []
    begun: list[Checkpoint] = []
    begin = Phase.begin

    def watched(self: Phase, previous: Checkpoint | None = None) -> Checkpoint:
        phases.append(self)
        begun.append(begin(self, previous))
        return begun[-1]

    monkeypatch.setattr(Phase, "begin", watched)
    saved: list[Checkpoint] = []
    train(job("phases.fine_tune.unfreeze={auto: {rate_decay: 0.25}}"), tmp_path, saved)
    multipliers = [phase.task.optimizer.multipliers for phase in phases[1:]]
    assert [of_phase.get(CONV_0) for of_phase in multipliers] == [None, 0.25]
    assert [of_phase[path] for of_phase in multipliers for path in (CONV_1, "head_logits/kernel")] == [1.0] * 4
    last = next(state for state in saved[::-1] if tried(state) == 1)
    shared = last.optimizer.keys() - {"fine_tune/iteration"}
    assert shared < begun[2].optimizer.keys()
    assert all(np.array_equal(begun[2].optimizer[path], last.optimizer[path]) for path in shared)
    fresh = begun[2].optimizer.keys() - last.optimizer.keys()
    assert any("conv_0" in path for path in fresh)
    assert not any(begun[2].optimizer[path].any() for path in fresh)
    assert int(begun[2].optimizer["fine_tune/iteration"]) == 0


@pytest.mark.parametrize("every", [4, *slow(1)])
def test_every_checkpoint_leads_to_the_same_end(every: int, tmp_path: Path) -> None:
    """In the middle of each block, and between two."""
    tf.config.experimental.enable_op_determinism()
    job_ = job("phases.fine_tune.unfreeze={auto: {confidence: 0.51}}")
    saved: list[Checkpoint] = []
    whole, _ = train(job_, tmp_path / "whole", saved)
    assert [block.pays for block in whole.thawed][:1] == [True], "else there is one block only"
    stages = [state for state in saved if state.progress.phase == "fine_tune"]
    assert {tried(state) for state in stages[::every]} == {1, 2}
    for number, state in enumerate(stages[::every]):
        write = write_checkpoint(tmp_path / "checkpoint", state)
        resumed = read_checkpoint(tmp_path / "checkpoint", "here", write)
        assert resumed.progress == state.progress
        assert resumed.caller.document == state.caller.document
        again, _ = train(job_, tmp_path / str(number), [], resumed)
        assert again.thawed == whole.thawed
        assert _curve(again) == _curve(whole)
        assert {path: value.tobytes() for path, value in again.fine_tuned.items()} == {
            path: value.tobytes() for path, value in whole.fine_tuned.items()
        }


def tried(state: Checkpoint) -> int | None:
    """The number of blocks that are thawed in a checkpoint of fine-tuning."""
    return len(state.caller.document["verdicts"]) + 1 if state.progress.phase == "fine_tune" else None


def _curve(trained: Trained) -> list[tuple[float | None, float]]:
    return [(epoch.loss, epoch.validation_loss) for epoch in trained.history["fine_tune"]]
