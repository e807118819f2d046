"""Packed sources on Ray: their indexes, and their records for the extract stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import pytest
import ray.data

from job.config import Data
from job.config.jobfile import parse_job
from job.data.snapshot import read_snapshot, take_snapshot
from job.data.sources.packed import index_key, list_shards, split_key, without_index
from job.errors import DataError, ObjectMissing, StorageError
from job.executors.packed_index import index_shards
from job.executors.ray import RayExecutor
from job.executors.ray.actors import rows_of
from job.executors.ray.datasource import read_records
from job.run.events import Event, ShardsIndexed
from job.storage import ObjectInfo, Store, open_store
from support.shards import MAKERS, Rows, data_of, fill

JOB = parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 2}}")


pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    return open_store(f"file://{tmp_path}/a source/"), open_store(f"file://{tmp_path}/store/")


def index(settings: Data, source: Store, store: Store, listed: list[ObjectInfo] | None = None) -> list[dict[str, int]]:
    """What was said of the progress."""
    said: list[dict[str, int]] = []

    def emit(event: Event) -> None:
        if isinstance(event, ShardsIndexed):
            said.append(asdict(event))

    found = list_shards(settings, source) if listed is None else listed
    if missing := without_index(settings, source, store, shards=found):
        with RayExecutor(JOB, False, emit) as executor:
            index_shards(settings, source, store, missing=missing, executor=executor, emit=emit)
    return said


def records_of(settings: Data, source: Store, shards: Iterable[str]) -> ray.data.Dataset:
    """Of the versions that are there."""
    versions = {info.key: info.version for info in source.list()}
    return read_records(settings, source, {shard: versions[shard] for shard in shards})


def check(settings: Data, source: Store, store: Store, content: Rows) -> None:
    """The snapshot and the records are what is in the shards, each at its position."""
    wanted = {(key, i): example for key, examples in content.items() for i, example in enumerate(examples)}
    records = records_of(settings, source, content).take_all()
    assert len(records) == len(wanted)
    assert {(row["shard"], row["position"]): (row["encoded"], row["label"]) for row in records} == wanted
    table = read_snapshot(store, take_snapshot(settings, source, store), ["key", "label", "size"]).to_pylist()
    assert [split_key(row["key"]) for row in table] == list(wanted)
    assert [(row["size"], row["label"]) for row in table] == [(len(image), label) for image, label in wanted.values()]


@pytest.mark.parametrize("form", MAKERS)
def test_a_packed_source_becomes_a_snapshot_and_its_records(form: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    content = fill(source, form)
    settings = data_of(form, source)
    assert [said["done"] for said in index(settings, source, store)] == [1, 2, 3]
    check(settings, source, store, content)
    again = open_store(f"{store.uri}another/")
    index(settings, source, again)
    assert take_snapshot(settings, source, again) == take_snapshot(settings, source, store)


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_shards_in_a_bucket(form: str, s3_bucket: Callable[[], str]) -> None:
    bucket = s3_bucket()
    source, store = open_store(f"s3://{bucket}/some cells/"), open_store(f"s3://{bucket}/thaw/")
    content = fill(source, form)
    settings = data_of(form, source)
    index(settings, source, store)
    check(settings, source, store, content)


def test_a_version_of_a_shard_is_indexed_once(stores: tuple[Store, Store]) -> None:
    source, store = stores
    content = fill(source, "webdataset")
    settings = data_of("webdataset", source)
    listed = list_shards(settings, source)
    assert len(index(settings, source, store, listed)) == 3
    for key in content:
        source.delete(key)
    assert index(settings, source, store, listed) == []
    fill(source, "webdataset", shard_count=1)
    assert index(settings, source, store) == [{"done": 1, "of": 1}]


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_positions_do_not_depend_on_how_ray_divides_the_work(
    form: str, stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several shards in a task, and several blocks of a shard."""
    source, store = stores
    content = fill(source, form, shard_count=4, rows=90)
    for module in ("datasource", "tasks"):
        monkeypatch.setattr(f"job.executors.ray.{module}.TASKS", 2)
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 50_000)
    settings = data_of(form, source)
    index(settings, source, store)
    assert records_of(settings, source, content).materialize().num_blocks() > 8
    check(settings, source, store, content)


@pytest.mark.parametrize("form", ["webdataset", "tfrecord", "parquet"])
def test_a_broken_shard_does_not_end_the_run(form: str, stores: tuple[Store, Store]) -> None:
    source, store = stores
    content = fill(source, form)
    first = next(iter(content))
    source.write(first, source.read(first)[:40_000])
    settings = data_of(form, source)
    index(settings, source, store)
    snapshot = take_snapshot(settings, source, store)
    kept = content[first][: snapshot.examples - 21 - 22]
    assert bool(kept) == (form != "parquet")
    told = f"after record {len(kept) - 1}" if kept else "before its first record"
    (reason,) = snapshot.rejects
    assert reason.endswith(told)
    check(settings, source, store, {**content, first: kept})


def test_what_the_snapshot_rejects_is_no_record(stores: tuple[Store, Store]) -> None:
    source, store = stores
    content = fill(source, "webdataset")
    sizes = sorted(len(image) for examples in content.values() for image, _ in examples)
    settings = data_of("webdataset", source, max_bytes=sizes[-3], max_rejects=1.0)
    index(settings, source, store)
    small = {key: [e for e in examples if len(e[0]) <= sizes[-3]] for key, examples in content.items()}
    records = records_of(settings, source, content).take_all()
    assert len(records) == sum(map(len, small.values())) < len(sizes)
    keys = {
        split_key(row["key"])
        for row in read_snapshot(store, take_snapshot(settings, source, store), ["key"]).to_pylist()
    }
    assert {(row["shard"], row["position"]) for row in records} == keys


def test_a_column_that_is_not_there_is_named(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, "parquet", shard_count=1)
    settings = data_of("parquet", source, packed={"label": "lable"})
    with pytest.raises(
        DataError, match=r"data.packed.label: file:.*x.parquet has no column 'lable' \(nearest: 'label'\)"
    ):
        index(settings, source, store)


def test_a_shard_that_changes_after_the_listing_is_not_indexed(stores: tuple[Store, Store]) -> None:
    source, store = stores
    fill(source, "webdataset", shard_count=1)
    settings = data_of("webdataset", source)
    (shard,) = list_shards(settings, source)
    fill(source, "webdataset", shard_count=1)
    with pytest.raises(StorageError, match=r"x.tar changed while it was read: run again"):
        index(settings, source, store, [shard])
    assert store.stat(index_key(settings, source, shard)) is None
    with pytest.raises(StorageError, match=r"/x.tar changed while it was read: run again.$"):
        list(rows_of(read_records(settings, source, {shard.key: shard.version}), "Reading", print))
    source.delete(shard.key)
    with pytest.raises(StorageError, match="was deleted in the meantime"):
        index(settings, source, store, [shard])
    with pytest.raises(ObjectMissing, match=r"/x.tar was deleted in the meantime: run again.$"):
        list(rows_of(read_records(settings, source, {shard.key: shard.version}), "Reading", print))
