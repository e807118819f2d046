from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from job.data.order import (
    STREAMS,
    WINDOW,
    WorkerShare,
    epoch_order,
    mixing_shares,
    mixup_partners,
    shard_size,
    steps_per_epoch,
    stream_count,
)  # fmt: skip

WORLDS = [1, 2, 3, 4, 5, 7, 8]
UNEVEN = [(1, 1), (1, 8), (5, 8), (61, 8), (300, 32), (301, 7), (1000, 96), (1024, 64), (4999, 100), (5000, 250)]
"""Examples and global batch."""


def sizes_of(examples: int) -> np.ndarray:
    """Of the shards of a data set of this size, all of whose examples are in one split."""
    size = shard_size(examples)
    return np.diff([*range(0, examples, size), examples])


def train_sizes(examples: int) -> np.ndarray:
    """Of the shards of the train split, a random four fifths; some shards may have none."""
    chosen = np.random.default_rng(0).random(examples) < 0.8
    counts = np.bincount(np.arange(examples)[chosen] // shard_size(examples))
    return counts[counts > 0]


def order_of(examples: int, batch_size: int = 64, seed: int = 0, epoch: int = 1) -> np.ndarray:
    return epoch_order(sizes_of(examples), batch_size, seed, epoch=epoch)


def places_of(order: np.ndarray) -> np.ndarray:
    """Where in the epoch each example is seen."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def read_by(order: np.ndarray, batch_size: int, rank: int, world_size: int) -> np.ndarray:
    """What a worker reads in an epoch, by step."""
    share = WorkerShare(batch_size, rank, world_size)
    in_order, _ = share.places(len(order), 0, steps_per_epoch(len(order), batch_size))
    return order[in_order[in_order >= 0]]


@pytest.mark.parametrize("examples", [1, 2, 63, 64, 300, 5000, 140_000])
@pytest.mark.parametrize("batch_size", [1, 32, 100])
def test_an_epoch_is_a_permutation_that_seed_and_epoch_decide(examples: int, batch_size: int) -> None:
    for sizes in (sizes_of(examples), train_sizes(max(examples, 8))):
        first = epoch_order(sizes, batch_size, seed=1, epoch=2)
        assert (np.sort(first) == np.arange(sizes.sum())).all()
        assert (first == epoch_order(sizes.copy(), batch_size, seed=1, epoch=2)).all()
    assert first.dtype == np.int32


def test_no_two_seeds_and_epochs_have_the_same_order() -> None:
    orders = {(seed, epoch): order_of(500, seed=seed, epoch=epoch) for seed in range(4) for epoch in range(4)}
    assert len({order.tobytes() for order in orders.values()}) == 16
    same = [(one == other).sum() for one in orders.values() for other in orders.values() if one is not other]
    assert max(same) < 10  # two random permutations agree in one place
    assert np.mean(same) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(("examples", "batch_size"), UNEVEN)
@pytest.mark.parametrize("world_size", WORLDS)
def test_a_global_batch_is_the_same_for_any_number_of_workers(examples: int, batch_size: int, world_size: int) -> None:
    order, steps = order_of(examples, batch_size), steps_per_epoch(examples, batch_size)
    shares = [WorkerShare(batch_size, rank, world_size) for rank in range(world_size)]
    parts = [share.places(examples, 0, steps) for share in shares]
    assert {(part.shape, part.dtype) for both in parts for part in both} == {((steps, shares[0].size), order.dtype)}
    seen: list[int] = []
    for step in range(steps):
        batch = order[step * batch_size : (step + 1) * batch_size]
        mine = [in_order[step][in_order[step] >= 0] for in_order, _ in parts]
        places = [in_batch[step][in_order[step] >= 0] for in_order, in_batch in parts]
        together = np.concatenate(mine)
        assert sorted(order[together]) == sorted(batch)
        assert (batch[np.concatenate(places)] == order[together]).all()
        seen += order[together].tolist()
    assert sorted(seen) == list(range(examples))


@pytest.mark.parametrize(("examples", "batch_size"), UNEVEN)
def test_padding_is_minus_one_and_stands_at_the_end(examples: int, batch_size: int) -> None:
    for world_size in WORLDS:
        for rank in range(world_size):
            share = WorkerShare(batch_size, rank, world_size)
            in_order, places = share.places(examples, 0, steps_per_epoch(examples, batch_size))
            assert in_order.min() >= -1
            assert ((places >= 0) & (places < batch_size)).all()
            assert (np.diff((in_order >= 0).astype(int), axis=1) <= 0).all()
            assert (np.diff(in_order, axis=1)[in_order[:, 1:] >= 0] > 0).all()


def test_a_stretch_of_steps_is_planned_as_in_the_whole_epoch() -> None:
    for rank in range(3):
        share = WorkerShare(100, rank, 3)
        whole = share.places(4999, 0, 50)
        for first, steps in ((0, 7), (13, 32), (49, 1)):
            part = share.places(4999, first, steps)
            assert all((a[first : first + steps] == b).all() for a, b in zip(whole, part, strict=True))


def test_full_batches_are_dealt_evenly_and_need_no_padding() -> None:
    for batch_size, world_size in ((64, 1), (64, 8), (128, 4), (32, 2), (8, 8), (192, 64)):
        shares = [WorkerShare(batch_size, rank, world_size) for rank in range(world_size)]
        assert {share.size for share in shares} == {batch_size // world_size}
        assert all((share.places(10 * batch_size, 0, 10)[0] >= 0).all() for share in shares)


def test_a_worker_more_than_there_are_streams_has_nothing_to_do_but_steps_along() -> None:
    in_order, _ = WorkerShare(4, rank=5, world_size=6).places(61, 0, 16)
    assert in_order.tolist() == [[-1]] * 16


@pytest.mark.parametrize(("examples", "epochs"), [(300, 3000), (5000, 400), (200_000, 24)])
def test_every_place_of_an_epoch_is_as_likely_for_every_example(examples: int, epochs: int) -> None:
    """By the mean of an example's places over many epochs, and by how often it is in each twelfth of an epoch."""
    total, counts = np.zeros(examples), np.zeros([examples, 12])
    for epoch in range(epochs):
        places = places_of(order_of(examples, epoch=epoch))
        total += (places + 0.5) / examples
        counts[np.arange(examples), places * 12 // examples] += 1
    # Independent places would have means of variance 1/12/epochs, and a chi-square of 11 degrees of freedom.
    means = (total / epochs - 0.5) * np.sqrt(12 * epochs)
    assert means.std() == pytest.approx(1, abs=0.12)
    assert np.abs(means).max() < 5.5
    chi_square = ((counts - epochs / 12) ** 2).sum(axis=1) / (epochs / 12)
    assert chi_square.mean() == pytest.approx(11, rel=0.08)
    assert chi_square.var() == pytest.approx(22, rel=0.35)


@pytest.mark.parametrize("examples", [300, 5000, 200_000])
def test_one_epoch_tells_nothing_about_the_next(examples: int) -> None:
    places = [places_of(order_of(examples, epoch=epoch)) for epoch in range(12)]
    correlations = [np.corrcoef(one, other)[0, 1] for one, other in pairwise(places)]
    # Shards move as one: as many independent moves as there are shards.
    assert np.abs(correlations).max() < 5 / np.sqrt(len(sizes_of(examples)))


@pytest.mark.parametrize("examples", [300, 5000])
def test_neighbours_in_small_data_part_like_those_of_a_true_permutation(examples: int) -> None:
    """The distance of two random places has a density that falls linearly."""
    places = [places_of(order_of(examples, epoch=epoch)) for epoch in range(60)]
    distances = np.concatenate([np.abs(np.diff(epoch)) for epoch in places]) / examples
    for stretch in (0.1, 0.3, 0.5, 0.8):
        assert (distances <= stretch).mean() == pytest.approx(1 - (1 - stretch) ** 2, abs=0.02)
    assert (
        distances <= 0.01
    ).mean() < 0.0199 * 1.1  # less where a shard has more than one example: they share a stream


def test_neighbours_in_large_data_are_many_batches_apart() -> None:
    """Those of a shard are in one window of a stream, or in two that follow each other."""
    batch_size = 64
    places = [places_of(order_of(200_000, batch_size, epoch=epoch)) for epoch in range(6)]
    batches = np.concatenate([np.abs(np.diff(epoch // batch_size)) for epoch in places])
    assert (batches == 0).mean() < 0.002
    assert (batches < 10).mean() < 0.05
    assert np.median(batches) > WINDOW / 5


@pytest.mark.parametrize("batch_size", [32, 64, 256])
@pytest.mark.parametrize("examples", [300, 5000])
def test_batches_of_data_that_is_sorted_by_class_are_as_mixed_as_those_of_a_true_permutation(
    examples: int, batch_size: int
) -> None:
    """A batch takes the same number from each stream, so that it is a little more even than chance, never less."""
    rare = np.arange(examples) < examples // 5
    counts = []
    for epoch in range(200):
        order = order_of(examples, batch_size, epoch=epoch)
        full = examples // batch_size * batch_size
        counts.append(rare[order[:full]].reshape(-1, batch_size).sum(axis=1))
    by_batch = np.stack(counts)
    chance = batch_size * 0.2 * 0.8 * (examples - batch_size) / (examples - 1)
    assert by_batch.mean() == pytest.approx(batch_size * 0.2, rel=0.02)
    assert 0.8 < by_batch.var() / chance < 1.08
    assert by_batch.mean(axis=0).std() < 3 * np.sqrt(chance / 200)  # no place of the epoch has more than others


def test_small_data_has_small_shards() -> None:
    assert [shard_size(examples) for examples in (1, 300, 1023, 1024, 5000, 131_072, 10**9)] == [
        1,
        1,
        1,
        2,
        9,
        256,
        256,
    ]
    for examples in (600, 5000, 100_000):
        assert len(sizes_of(examples)) >= 8 * STREAMS


@pytest.mark.parametrize(("examples", "batch_size"), [(200_000, 64), (200_000, 100), (70_001, 32)])
@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 8])
def test_a_shard_is_read_by_one_worker_unless_the_end_of_a_stream_cuts_it(
    examples: int, batch_size: int, world_size: int
) -> None:
    sizes = train_sizes(examples)
    order, shard = epoch_order(sizes, batch_size, 0, epoch=1), np.repeat(np.arange(len(sizes)), sizes)
    read = [np.unique(shard[read_by(order, batch_size, rank, world_size)]) for rank in range(world_size)]
    readers = np.bincount(np.concatenate(read), minlength=len(sizes))
    assert readers.min() == 1
    assert (readers - 1).sum() < stream_count(batch_size)
    assert max(map(len, read)) < 1.3 * len(sizes) / world_size


@pytest.mark.parametrize("examples", [70_001, 200_000])
def test_a_worker_has_few_shards_open_at_a_time(examples: int) -> None:
    """From the first to the last use of a shard: what a node must hold that can't hold all."""
    batch_size, world_size = 64, 4
    sizes = train_sizes(examples)
    order, shard = epoch_order(sizes, batch_size, 0, epoch=1), np.repeat(np.arange(len(sizes)), sizes)
    in_a_window = -(-WINDOW // int(sizes.mean())) + 1
    for rank in range(world_size):
        used = shard[read_by(order, batch_size, rank, world_size)]
        first = np.unique(used, return_index=True)[1]
        last = len(used) - 1 - np.unique(used[::-1], return_index=True)[1]
        opened = np.bincount(first, minlength=len(used)) - np.bincount(last + 1, minlength=len(used) + 1)[:-1]
        most = np.cumsum(opened).max()
        assert most <= in_a_window * STREAMS // world_size


def test_ten_million_examples_are_planned_in_little_memory() -> None:
    examples = 10_000_000
    sizes = sizes_of(examples)
    tracemalloc.start()
    order = epoch_order(sizes, 256, 0, epoch=1)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for first in range(0, steps_per_epoch(examples, 256) - 32, 4000):
        WorkerShare(256, 1, 2).places(examples, first, 32)
    planned = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(order) == examples
    assert most < 12.5 * examples
    assert kept < 4.1 * examples
    assert planned - kept < 2**20


@pytest.mark.parametrize(("examples", "batch_size"), UNEVEN)
@pytest.mark.parametrize("world_size", WORLDS)
def test_partners_are_others_that_the_same_worker_reads(examples: int, batch_size: int, world_size: int) -> None:
    streams, steps = stream_count(batch_size), steps_per_epoch(examples, batch_size)
    everyone = np.arange(examples)
    others = mixup_partners(everyone, examples, batch_size)
    assert (others != everyone).sum() == (examples if examples >= 2 * streams else 2 * max(examples - streams, 0))
    for rank in range(world_size):
        mine, _ = WorkerShare(batch_size, rank, world_size).places(examples, 0, steps)
        mine = mine[mine >= 0]
        assert set(others[mine]) <= set(mine)


def test_mixing_keeps_more_of_the_example_than_of_its_partner() -> None:
    shares = mixing_shares(10_000, 0.4, seed=1, epoch=2)
    assert (shares.dtype, shares.min() >= 0.5, shares.max() <= 1) == (np.float32, True, True)
    drawn = np.random.default_rng(0).beta(0.4, 0.4, 100_000)
    assert shares.mean() == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.01)
    assert (shares == mixing_shares(10_000, 0.4, seed=1, epoch=2)).all()
    assert (shares != mixing_shares(10_000, 0.4, seed=1, epoch=3)).any()
