from __future__ import annotations

import numpy as np
import pytest

from job.config import Augment
from job.data import order
from job.data.augment import Flips


def test_an_epoch_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first = order.epoch_order(1000, seed=1, epoch=2)
    assert sorted(first) == list(range(1000))
    assert (first == order.epoch_order(1000, seed=1, epoch=2)).all()
    assert (first != order.epoch_order(1000, seed=1, epoch=3)).any()
    assert (first != order.epoch_order(1000, seed=2, epoch=2)).any()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_every_example_is_seen_once_and_every_worker_steps_equally_often(world_size: int) -> None:
    examples, batch_size = 61, 8
    shuffled, seen = order.epoch_order(examples, 0, 1), []
    steps = order.steps_per_epoch(examples, batch_size)
    for step in range(steps):
        batch = order.global_batch(shuffled, step, batch_size)
        parts = [order.local_batch(batch, batch_size, rank, world_size) for rank in range(world_size)]
        assert len({len(mine) for mine, _ in parts}) == 1
        together = np.concatenate([mine for mine, _ in parts])
        assert (together[together >= 0] == batch).all()
        for mine, positions in parts:
            assert (batch[positions[mine >= 0]] == mine[mine >= 0]).all()
            assert (positions < batch_size).all()
        seen += together[together >= 0].tolist()
    assert sorted(seen) == list(range(examples))


def test_flips_depend_on_the_example_not_on_its_batch() -> None:
    images = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    flips = Flips(Augment(flip_horizontal=True, flip_vertical=True), 6, seed=0, epoch=1)
    whole = flips(images.copy(), np.arange(6))
    parts = [flips(images[[i]].copy(), np.array([i])) for i in (5, 2, 0)]
    assert (np.concatenate(parts) == whole[[5, 2, 0]]).all()
    assert (whole != images).any()
    assert (np.sort(whole, axis=None) == np.sort(images, axis=None)).all()


def test_no_flips_where_none_are_asked_for() -> None:
    images = np.arange(60, dtype=np.uint8).reshape(5, 2, 2, 3)
    assert (Flips(Augment(), 5, 0, 1)(images.copy(), np.arange(5)) == images).all()
