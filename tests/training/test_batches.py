from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from job.config import Augment
from job.data.augment import augment_images, view_seeds
from job.data.order import WorkerShare, epoch_order, steps_per_epoch, stream_count
from job.errors import CorruptFeatures, StorageError
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, load_dataset, write_dataset
from job.features.store import Featurizer, stored_features
from job.storage import Store, open_store
from job.training.batches import CHUNK, Batches, fresh_view
from support.cases import slow
from support.stored import CLASSES, examples_of, write_part

EXAMPLES, BATCH = 400, 4
PART = 16
EVERYTHING = Augment(flip_horizontal=True, rotate=30, shift=0.1, scale=0.2, brightness=0.2, contrast=0.3)


def store_inputs(folder: Path, values: np.ndarray, dtype: str) -> tuple[Store, Dataset]:
    """A data set whose train split is three quarters of the examples, of two classes of unequal weights."""
    (folder / "store").mkdir()
    store, random = open_store(f"file://{folder}/store/"), np.random.default_rng(0)
    labels = (random.random(EXAMPLES) < 0.2).astype(np.int32)
    sides = np.split(random.permutation(EXAMPLES), [EXAMPLES * 3 // 4, EXAMPLES * 7 // 8])
    examples = examples_of(labels, dict(zip(("train", "validation", "test"), map(np.sort, sides), strict=True)))
    examples = replace(examples, hashes=random.integers(0, 2**64, EXAMPLES, np.uint64))
    featurizer = Featurizer("at the cut", 0, dtype, values.shape[1:], {})
    for chosen in np.array_split(random.permutation(EXAMPLES), EXAMPLES // PART):
        write_part(store, featurizer, examples.addresses[chosen], values=values[chosen])
    found = [(featurizer, stored_features(store, featurizer))]
    write_dataset(
        store, "run", CLASSES, examples=examples, accepted=np.ones(EXAMPLES, np.bool_), pooled=[], inputs=found
    )
    return store, load_dataset(store, "run", CLASSES, class_weights={"a": 1.0, "b": 3.7})


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (EXAMPLES, *shape), np.uint8).astype(dtype)


def cache_of(store: Store, data: Dataset, folder: Path, limit: int | None = None) -> FeatureCache:
    return FeatureCache(store, data, data.inputs[0], cache=NodeCache(str(folder / "cache"), limit, 1))


def order_of(data: Dataset, epoch: int = 1, batch_size: int = BATCH) -> np.ndarray:
    return data.splits["train"][epoch_order(data.sizes("train"), batch_size, 0, epoch=epoch)]


def tensors(reader: Batches, examples: np.ndarray, view: int = 0) -> list[tuple[tf.Tensor, ...]]:
    with reader.own_errors():
        return list(reader.read(examples, view=view))


def arrays(reader: Batches, examples: np.ndarray, view: int = 0) -> list[tuple[np.ndarray, ...]]:
    return [tuple(part.numpy() for part in batch) for batch in tensors(reader, examples, view)]


def rows_of(examples: np.ndarray, share: WorkerShare) -> list[list[int]]:
    """The places in `examples` of a worker's part of each global batch."""
    steps = np.split(np.arange(len(examples)), range(share.global_batch_size, len(examples), share.global_batch_size))
    streams = stream_count(share.global_batch_size)
    return [[int(at) for at in step if at % streams % share.world_size == share.rank] for step in steps]


EACH_ONCE = [
    (1, 4, "uint8"),
    (1, 4, "float16"),
    (1, 4, "float32"),
    (2, 4, "float16"),
    (3, 7, "uint8"),
    (2, 101, "float32"),
]
OTHERS = {(*shares, dtype) for shares in ((2, 4), (3, 7), (2, 101)) for dtype in ("uint8", "float16", "float32")}


@pytest.mark.parametrize(
    ("world_size", "batch_size", "dtype"),
    [*EACH_ONCE, *slow(*sorted(OTHERS - set(EACH_ONCE)))],
)
def test_batches_are_what_plain_numpy_makes_of_the_order(
    world_size: int, batch_size: int, dtype: str, tmp_path: Path
) -> None:
    values = noise((3, 2), dtype)
    store, data = store_inputs(tmp_path, values, dtype)
    examples = order_of(data, batch_size=batch_size)
    assert len(examples) % batch_size or batch_size == 4
    whole = np.zeros(steps_per_epoch(len(examples), batch_size))
    for rank in range(world_size):
        share = WorkerShare(batch_size, rank, world_size)
        found = arrays(Batches(cache_of(store, data, tmp_path), data, share), examples)
        assert len(found) == len(whole)
        for step, (batch, mine) in enumerate(zip(found, rows_of(examples, share), strict=True)):
            inputs, labels, weights, places, ids = batch
            assert {len(part) for part in batch[:4]} == {share.size}
            assert [part.dtype for part in batch] == [dtype, np.int32, np.float32, np.int32, np.int64]
            chosen, real = examples[mine], slice(0, len(mine))
            everyone = data.weights[examples[step * batch_size : (step + 1) * batch_size]]
            assert inputs[real].tobytes() == values[chosen].tobytes()
            assert labels[real].tolist() == data.labels[chosen].tolist()
            assert weights[real] == pytest.approx(data.weights[chosen] / everyone.sum(), rel=1e-6)
            assert weights[len(mine) :].tolist() == [0] * (share.size - len(mine))
            assert places[real].tolist() == [at - step * batch_size for at in mine]
            assert int(ids[0]) % 2**64 == sum(data.ids[chosen].tolist()) % 2**64
            assert ids[1] == 0
            whole[step] += weights.sum(dtype=np.float64)
    assert whole == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("augment", [None, EVERYTHING])
def test_each_example_comes_with_the_same_other_one_whatever_the_number_of_workers(
    augment: Augment | None, tmp_path: Path
) -> None:
    store, data = store_inputs(tmp_path, noise((9, 9, 3)), "uint8")
    examples = order_of(data)
    kept = np.linspace(0.5, 1, len(examples), dtype=np.float32)

    def pairs(world_size: int) -> list[tuple[bytes, ...]]:
        found = []
        for rank in range(world_size):
            reader = Batches(
                cache_of(store, data, tmp_path), data, WorkerShare(BATCH, rank, world_size), augment=augment, mixes=True
            )
            for *parts, _ in reader.read(examples, view=1, kept=kept):
                rows = zip(*(part.numpy() for part in parts), strict=True)
                found += [tuple(part.tobytes() for part in row) for row in rows if row[2] > 0]
        return sorted(found)

    alone = pairs(1)
    assert len(alone) == len(examples)
    assert pairs(3) == alone
    assert sorted(np.frombuffer(b"".join(pair[-1] for pair in alone), np.float32)) == pytest.approx(kept)
    own, others = ({pair[position] for pair in alone} for position in (0, 4))
    assert len(own) == len(examples)
    assert others <= own
    assert all(pair[0] != pair[4] for pair in alone)


def test_an_epoch_has_more_than_two_chunks() -> None:
    """Else these tests would not see one given back."""
    assert EXAMPLES * 3 // 4 / BATCH > 2 * CHUNK


def proof(caches: list[FeatureCache], data: Dataset) -> tuple[int, int]:
    """The digest of an epoch and the examples out of place, over all workers."""
    shares = [WorkerShare(BATCH, rank, len(caches)) for rank in range(len(caches))]
    readers = [Batches(cache, data, share) for cache, share in zip(caches, shares, strict=True)]
    found = [arrays(reader, order_of(data)) for reader in readers]
    proofs = [batch[-1].tolist() for mine in found for batch in mine]
    return sum(ids for ids, _ in proofs) % 2**64, sum(wrong for _, wrong in proofs)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_ids_of_an_epoch_add_up_to_those_of_the_train_split(world_size: int, tmp_path: Path) -> None:
    store, data = store_inputs(tmp_path, noise((3,)), "uint8")
    wanted = sum(data.ids[data.splits["train"]].tolist()) % 2**64
    assert proof([cache_of(store, data, tmp_path) for _ in range(world_size)], data) == (wanted, 0)


def test_the_ids_of_an_epoch_show_what_is_not_the_data_set_s(tmp_path: Path) -> None:
    store, data = store_inputs(tmp_path, noise((3,)), "uint8")
    cache = cache_of(store, data, tmp_path)
    wanted = proof([cache], data)
    train, other = data.splits["train"][17], data.splits["test"][3]
    cache.wait(np.array([other]))
    right = cache.ids[train]
    for wrong in (0, cache.ids[other], right + 1, cache.ids[data.splits["train"][18]]):
        cache.ids[train] = wrong
        found = proof([cache], data)
        assert found[0] != wanted[0]
        assert found[1] == 1
    cache.ids[train] = right
    assert proof([cache], data) == wanted


def test_examples_that_changed_places_are_out_of_place_though_their_sum_is_right(tmp_path: Path) -> None:
    store, data = store_inputs(tmp_path, noise((3,)), "uint8")
    cache = cache_of(store, data, tmp_path)
    wanted = proof([cache], data)
    two = data.splits["train"][[3, 11]]
    cache.ids[two] = cache.ids[two[::-1]]
    assert proof([cache], data) == (wanted[0], 2)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_drawn_images_are_functions_of_the_example_and_the_view(world_size: int, tmp_path: Path) -> None:
    """The same reader draws each epoch anew."""
    images = noise((12, 9, 3))
    store, data = store_inputs(tmp_path, images, "uint8")
    for rank in range(world_size):
        share = WorkerShare(BATCH, rank, world_size)
        reader = Batches(cache_of(store, data, tmp_path), data, share, augment=EVERYTHING)
        for epoch, view in enumerate((fresh_view(0, 1), 3, fresh_view(0, 2))):
            examples = order_of(data, epoch)
            rows = rows_of(examples, share)
            found = arrays(reader, examples, view)
            seen = np.concatenate([batch[0][: len(mine)] for batch, mine in zip(found, rows, strict=True)])
            chosen = examples[np.concatenate(rows).astype(int)]
            wanted = augment_images(images[chosen], view_seeds(data.hashes[chosen], view), EVERYTHING).numpy()
            assert (seen == wanted).all()
            assert (wanted != images[chosen]).mean() > 0.5


def test_no_epoch_draws_the_view_of_another_nor_one_that_is_stored() -> None:
    views = {fresh_view(seed, stream) for seed in range(20) for stream in (*range(50), *range(2**20, 2**20 + 50))}
    assert len(views) == 2000
    assert min(views) >= 2**62
    assert max(views) < 2**63


def test_bfloat16_comes_as_what_it_is(tmp_path: Path) -> None:
    values = noise((5,), "float32") / 7
    bits = tf.bitcast(tf.cast(values, tf.bfloat16), tf.uint16).numpy()
    store, data = store_inputs(tmp_path, bits, "bfloat16")
    examples = order_of(data)
    found = tensors(Batches(cache_of(store, data, tmp_path), data, WorkerShare(BATCH, 0, 1)), examples)
    assert {batch[0].dtype for batch in found} == {tf.bfloat16}
    seen = tf.cast(tf.concat([batch[0] for batch in found], axis=0), tf.float32).numpy()
    assert seen == pytest.approx(values[examples], rel=2**-8)


def late_part(data: Dataset) -> Any:
    """A part that no example of the first steps is in."""
    first = data.inputs[0].part[order_of(data)[: CHUNK * BATCH // 8]]
    return data.inputs[0].parts[np.setdiff1d(data.inputs[0].part[data.splits["train"]], first)[0]]


@pytest.mark.parametrize("augment", [None, EVERYTHING])
def test_a_corrupt_part_is_named(augment: Augment | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.training.batches.CHUNK", CHUNK // 8)
    store, data = store_inputs(tmp_path, noise((4, 4, 3)), "uint8")
    part, featurizer = late_part(data), data.inputs[0].featurizer
    store.delete(f"features/{featurizer.id}/{part.file}.arrow")
    reader = Batches(cache_of(store, data, tmp_path), data, WorkerShare(BATCH, 0, 1), augment=augment)
    with pytest.raises(CorruptFeatures, match=f"{part.file}.arrow is gone") as caught:
        tensors(reader, order_of(data))
    assert (caught.value.featurizer, caught.value.file) == (featurizer.id, part.file)


def test_a_full_disk_is_an_error_of_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, data = store_inputs(tmp_path, noise((3,)), "uint8")

    def full(handle: int, content: Any, position: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(StorageError, match="THAW_CACHE"):
        tensors(Batches(cache_of(store, data, tmp_path), data, WorkerShare(BATCH, 0, 1)), order_of(data))


def test_batches_are_the_same_where_the_data_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several epochs: what was given back is read again."""
    monkeypatch.setattr("job.training.batches.CHUNK", CHUNK // 8)
    images = noise((40, 40, 3))
    store, data = store_inputs(tmp_path, images, "uint8")
    read_part, reads = store.read_range, []
    monkeypatch.setattr(store, "read_range", lambda *part: reads.append(part) or read_part(*part))
    shares = [WorkerShare(BATCH, rank, 3) for rank in range(2)]
    small = [Batches(cache_of(store, data, tmp_path, images[0].nbytes * 40), data, share) for share in shares]
    large = [Batches(cache_of(store, data, tmp_path), data, share) for share in shares]
    for epoch in range(3):
        for reader, other in zip(small, large, strict=True):
            both = (arrays(one, order_of(data, epoch)) for one in (reader, other))
            for one, wanted in zip(*both, strict=True):
                real = wanted[2] > 0  # the images of the padding are any
                assert one[0][real].tobytes() == wanted[0][real].tobytes()
                assert [part.tobytes() for part in one[1:]] == [part.tobytes() for part in wanted[1:]]
    assert len(reads) > 4 * len(data.inputs[0].parts)


def test_what_the_last_chunk_needs_is_not_given_back_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last batches may be on their way when the next chunk is planned."""
    store, data = store_inputs(tmp_path, noise((3,)), "uint8")
    cache, examples = cache_of(store, data, tmp_path, limit=0), order_of(data)
    chunks = [set(examples[at : at + CHUNK * BATCH].tolist()) for at in range(0, len(examples), CHUNK * BATCH)]
    calls: list[set[int]] = []
    monkeypatch.setattr(cache, "release", lambda still: calls.append(set(still)))
    arrays(Batches(cache, data, WorkerShare(BATCH, 0, 1)), examples)
    assert len(calls) == len(chunks)
    for at, still in enumerate(calls):
        assert still == set().union(*chunks[max(at - 1, 0) : at + 2])
