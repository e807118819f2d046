from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from job.errors import ObjectMissing, StorageError
from job.features.store import ADDRESS, Featurizer, address_of, stored_features
from job.features.workload import CHUNK, CHUNK_BYTES, missing, read_chunk, read_chunks_of, write_work
from job.storage import Store
from job.storage.run_keys import RunKeys
from support.stored import POOLED, examples_of, split_up, write_part


def test_new_examples_are_all_that_is_missing(store: Store) -> None:
    examples = examples_of(np.zeros(200, np.int32), {"train": np.arange(200)})
    new = np.random.default_rng(0).choice(200, 20, replace=False)
    old = np.setdiff1d(np.arange(200), new)
    write_part(store, POOLED, examples.addresses[old], values=np.zeros((180, 3), np.float32))
    needs = missing(examples, [(POOLED, stored_features(store, POOLED))])
    assert np.flatnonzero(needs[:, 0]).tolist() == sorted(new)
    version = replace(examples, addresses=np.array([address_of("test", f"{i:06d}", "2") for i in range(200)], ADDRESS))
    assert missing(version, [(POOLED, stored_features(store, POOLED))]).all()


def test_only_training_examples_need_views_and_rejects_need_nothing(store: Store) -> None:
    examples, view = examples_of(np.zeros(30, np.int32), split_up(30)), replace(POOLED, view=1)
    rejected = [3, 17, 28]
    write_part(store, POOLED, examples.addresses[[0, 2, 4]], values=np.zeros((3, 3), np.float32))
    write_part(store, view, examples.addresses[:2], values=np.zeros((2, 3), np.float32))
    refused = [(address, "not an image") for address in examples.addresses[rejected].tolist()]
    write_part(store, POOLED, examples.addresses[5:6], values=np.zeros((1, 3), np.float32), rejects=refused)
    needs = missing(examples, [(featurizer, stored_features(store, featurizer)) for featurizer in (POOLED, view)])
    plain = np.setdiff1d(np.arange(30), [0, 2, 4, 5, *rejected])
    assert np.flatnonzero(needs[:, 0]).tolist() == plain.tolist()
    assert np.flatnonzero(needs[:, 1]).tolist() == np.setdiff1d(split_up(30)["train"], [0, 1, *rejected]).tolist()


def test_work_comes_back_in_chunks(store: Store) -> None:
    examples = examples_of(np.zeros(1500, np.int32), {"train": np.arange(1500)})
    needs = np.random.default_rng(0).random((1500, 2)) < 0.4
    chunks = write_work(store, "run", examples, needs=needs, featurizers=[POOLED, POOLED], packed=False)
    rows = np.flatnonzero(needs.any(axis=1))
    read = [read_chunk(store, "run", number) for number in range(len(chunks))]
    assert chunks == [("", "1")] * len(read)
    assert [len(chunk.keys) for chunk in read] == [*[CHUNK] * (len(rows) // CHUNK), len(rows) % CHUNK]
    assert [key for chunk in read for key in chunk.keys] == [f"{row:06d}" for row in rows]
    assert {version for chunk in read for version in chunk.versions} == {"1"}
    assert (np.concatenate([chunk.hashes for chunk in read]) == examples.hashes[rows]).all()
    assert (np.concatenate([chunk.addresses for chunk in read]) == examples.addresses[rows]).all()
    assert (np.concatenate([chunk.needs for chunk in read]) == needs[rows]).all()
    assert read[0].hashes.dtype == np.uint64


@pytest.mark.parametrize(("values", "wanted"), [(1000, CHUNK), (2**20, 10), (2**22, 2), (2**23, 1), (2**28, 1)])
def test_a_chunk_has_a_bounded_size(values: int, wanted: int, store: Store) -> None:
    """Of all its features together."""
    featurizers = [
        Featurizer("pooled", 0, "float32", (values,), {}),
        Featurizer("at the cut", 0, "float16", (values,), {}),
    ]
    examples = examples_of(np.zeros(600, np.int32), {"train": np.arange(600)})
    chunks = write_work(
        store, "run", examples, needs=np.ones((600, 2), np.bool_), featurizers=featurizers, packed=False
    )
    sizes = [len(read_chunk(store, "run", number).keys) for number in (0, len(chunks) - 1)]
    assert sizes == [wanted, 600 - wanted * (len(chunks) - 1)]
    assert wanted == 1 or wanted * values * 6 <= CHUNK_BYTES


def test_a_chunk_is_of_one_packed_file(store: Store) -> None:
    counts = {"b/1.tar": 300, "a.tar": 5, "c d#.tar": 256, "0.tar": 1}
    keys = [f"{file}#{i:09d}" for file, count in counts.items() for i in range(count)]
    versions = [f"of {key.rpartition('#')[0]}" for key in keys]
    examples = examples_of(np.zeros(len(keys), np.int32), {"train": np.arange(len(keys))})
    table = pa.table({"key": keys, "version": versions, "label": ["a"] * len(keys)})
    needs = np.ones((len(keys), 1), np.bool_)
    needs[[0, 304]] = False
    chunks = write_work(store, "run", replace(examples, table=table), needs=needs, featurizers=[POOLED], packed=True)
    files = [file for file, _ in chunks]
    assert files == ["b/1.tar", "b/1.tar", "a.tar", "c d#.tar", "0.tar"]
    assert [version for _, version in chunks] == [f"of {file}" for file in files]
    for file, count in counts.items():
        chunk = read_chunks_of(store, "run", file)
        start = 1 if file == "b/1.tar" else 0
        end = 4 if file == "a.tar" else count
        assert chunk.keys == [f"{file}#{i:09d}" for i in range(start, end)]
        assert chunk.addresses.tolist() == examples.addresses[[keys.index(key) for key in chunk.keys]].tolist()
        assert len(chunk.hashes) == len(chunk.needs) == len(chunk.versions) == len(chunk.keys)
    store.delete(RunKeys("run").work)


def test_work_that_can_not_be_read_is_a_storage_error(store: Store, tmp_path: Path) -> None:
    place = tmp_path / "store" / RunKeys("run").work
    reads = [lambda: read_chunk(store, "run", 0), lambda: read_chunks_of(store, "run", "a.tar")]
    for read in reads:
        with pytest.raises(ObjectMissing, match=f"file://{place} was deleted in the meantime: run again"):
            read()
    place.mkdir(parents=True)
    for read in reads:
        with pytest.raises(StorageError, match=f"file://{place}: could not read it"):
            read()
