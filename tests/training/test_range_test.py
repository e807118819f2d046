"""`learning_rate: auto`: what is chosen from a curve, and what is left as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from job.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from job.training.phases import Trained
from job.training.range_test import MARGIN, RATES, range_test
from support.bench import job_of, set_up


class Valley:
    """Steps whose losses fall up to a rate, and then grow without bound; each batch has a loss of its own."""

    def __init__(self, lowest: float) -> None:
        self.lowest, self.made = lowest, np.empty(0)
        self.levels = np.linspace(0.5, 8, 8)

    def __call__(self, rates: np.ndarray) -> np.ndarray:
        batches = (len(self.made) + np.arange(len(rates))) % len(self.levels)
        self.made = np.concatenate([self.made, rates])
        below = np.minimum(rates, self.lowest) / self.lowest
        above = np.maximum(rates / self.lowest - 1, 0)
        return self.levels[batches] * (1 - 0.6 * below + above)


@pytest.mark.parametrize("lowest", [1e-4, 1e-2])
def test_a_tenth_of_the_rate_of_the_lowest_loss(lowest: float) -> None:
    steps = Valley(lowest)
    found = range_test(steps, 8)
    assert found.learning_rate == pytest.approx(lowest / MARGIN, rel=0.7)
    assert steps.made[:8].tolist() == [0] * 8
    assert found.rates == RATES[: len(found.losses)].tolist()
    assert len(found.losses) < len(RATES), "it ends where the loss has diverged"


def test_losses_that_are_no_numbers_end_it() -> None:
    steps = Valley(1e-2)
    found = range_test(lambda rates: np.where(rates > 1e-2, np.nan, steps(rates)), 8)
    assert 1e-3 / MARGIN < found.learning_rate <= 1e-2 / MARGIN
    assert None in found.losses


def test_a_phase_trains_at_the_rate_that_was_found_from_where_it_was(tmp_path: Path) -> None:
    job = job_of("file:///own.keras", "phases.head.learning_rate=auto", "checkpoint.every_steps=2")
    saved: list[Checkpoint] = []
    trained = set_up(job, tmp_path / "auto", sizes=(40, 8, 4)).train(job, "head", saved)
    found = trained.progress.range_tests["head"]
    assert 1e-6 < found.learning_rate < 1
    assert {record.learning_rate for record in trained.history["head"]} == {found.learning_rate}
    same = job_of("file:///own.keras", f"phases.head.learning_rate={found.learning_rate!r}")
    told = set_up(same, tmp_path / "told", sizes=(40, 8, 4)).train(same, "head", [])
    assert losses(trained) == losses(told)
    assert {path: v.tobytes() for path, v in trained.head.items()} == {p: v.tobytes() for p, v in told.head.items()}
    resumed = read_checkpoint(tmp_path / "file", "here", write_checkpoint(tmp_path / "file", saved[0]))
    again = set_up(job, tmp_path / "again", sizes=(40, 8, 4)).train(job, "head", [], resumed)
    assert losses(again) == losses(trained)


def losses(trained: Trained) -> list[float]:
    return [record.loss for record in trained.history["head"]]


@pytest.mark.parametrize("examples", [5, 19])
def test_few_examples_fill_whole_batches_so_that_losses_are_of_the_same_batch(examples: int, tmp_path: Path) -> None:
    """Batches of 8: the test goes round and round on one batch, or on three, the last of which has three examples."""
    job = job_of("file:///own.keras", "phases.head.learning_rate=auto", "model.head.dropout=0")
    trained = set_up(job, tmp_path, sizes=(examples, 5, 5)).train(job, "head", [])
    relative = trained.progress.range_tests["head"].losses
    assert relative[:4] == pytest.approx([1] * 4, abs=0.05), "at the lowest rates nothing has changed"
