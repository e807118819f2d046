"""The indexes of packed sources, written in this process; tests/executors/ray has them written by Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config import Data
from job.config.jobfile import parse_job
from job.data.snapshot import read_snapshot, take_snapshot
from job.data.sources.packed import index_key, list_shards, split_key, without_index
from job.errors import DataError, StorageError
from job.executors.local import LocalExecutor
from job.executors.packed_index import index_shards
from job.run.events import Event, ShardsIndexed
from job.storage import ObjectInfo, Store, open_store
from support.shards import data_of, fill

JOB = parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///'}")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    return open_store(f"file://{tmp_path}/a source/"), open_store(f"file://{tmp_path}/store/")


def index(data: Data, source: Store, store: Store, listed: list[ObjectInfo] | None = None) -> list[tuple[int, int]]:
    """How much was done of how much, as it was said."""
    said: list[tuple[int, int]] = []

    def emit(event: Event) -> None:
        assert isinstance(event, ShardsIndexed)
        said.append((event.done, event.of))

    missing = without_index(data, source, store, shards=list_shards(data, source) if listed is None else listed)
    index_shards(data, source, store, missing=missing, executor=LocalExecutor(JOB), emit=emit)
    return said


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_each_version_of_a_shard_is_indexed_once(form: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    content = fill(source, form)
    data = data_of(form, source)
    assert index(data, source, store) == [(1, 3), (2, 3), (3, 3)]
    assert index(data, source, store) == []
    table = read_snapshot(store, take_snapshot(data, source, store), ["key", "label", "size"]).to_pylist()
    wanted = {(key, i): example for key, rows in content.items() for i, example in enumerate(rows)}
    assert [split_key(row["key"]) for row in table] == list(wanted)
    assert [(row["size"], row["label"]) for row in table] == [(len(image), label) for image, label in wanted.values()]
    fill(source, form, shard_count=1)
    assert index(data, source, store) == [(1, 1)]


def test_a_column_that_is_not_there_is_named(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, "parquet", shard_count=1)
    with pytest.raises(
        DataError, match=r"data.packed.label: file:.*x.parquet has no column 'lable' \(nearest: 'label'"
    ):
        index(data_of("parquet", source, packed={"label": "lable"}), source, store)


def test_a_shard_that_changes_after_the_listing_is_not_indexed(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, "webdataset", shard_count=1)
    data = data_of("webdataset", source)
    (shard,) = list_shards(data, source)
    fill(source, "webdataset", shard_count=1)
    with pytest.raises(StorageError, match=r"x.tar changed while it was read: run again"):
        index(data, source, store, [shard])
    assert store.stat(index_key(data, source, shard)) is None
