from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from job.config import Data
from job.data.labels import labelled
from job.data.packed import (
    index_key,
    is_shard,
    join_key,
    list_shards,
    make_index,
    read_shard,
    records_of,
    split_key,
)
from job.data.records import Record
from job.data.snapshot import take_snapshot
from job.errors import DataError, ObjectMissing, StorageError
from job.storage import ObjectInfo, Store, open_store
from support import shards


def data(layout: str, source: str = "file:///source/", **packed: str) -> Data:
    return Data(source=source, layout=layout, packed=packed or None)


def index(data: Data, source: Store, store: Store) -> None:
    """As a run does."""
    for shard in list_shards(data, source):
        records = records_of(pa.BufferReader(source.read(shard.key)), data, shard.key)
        store.write(index_key(data, source, shard), make_index(records))


def test_names_of_parts_are_for_packed_layouts_only() -> None:
    with pytest.raises(
        ValueError, match="`packed` is only for the layouts webdataset, parquet, tfrecord, not for table"
    ):
        data("table", label="x")
    names = data("tfrecord", label="y").record_names
    assert (names.image, names.label, names.group) == ("image/encoded", "y", None)


def test_a_key_is_a_shard_and_a_position() -> None:
    assert split_key(join_key("a#b/c.tar", 17)) == ("a#b/c.tar", 17)
    assert join_key("a.tar", 17) == "a.tar#000000017"


@pytest.mark.parametrize("name", ["a.tfrecord", "b/A.TFRecords", "a.tfrec", "train.tfrecord-00003-of-00010"])
def test_the_usual_names_of_shards_are_known(name: str) -> None:
    assert is_shard(data("tfrecord"), name)
    assert not is_shard(data("tfrecord"), f".{name}")
    assert not is_shard(data("webdataset"), name)


def test_every_object_and_record_is_an_example_or_a_reject(tmp_path: Path) -> None:
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    settings = data("webdataset", source.uri)
    source.write("README.md", b"x")
    with pytest.raises(DataError, match=r"webdataset wants files .tar .* below the source. file.*README.md is text"):
        take_snapshot(settings, source, store)
    content = shards.webdataset_of(shards.examples(40))
    for key in ("a.tar", "b/a.tar"):
        source.write(key, content)
    source.write("c.tar", content[: content.index(b"00019.PNG")])
    source.write(".hidden.tar", content)
    index(settings, source, store)
    source.write("d.tar", content)
    snapshot = take_snapshot(settings, source, store)
    assert snapshot.examples == 80 + 19
    assert snapshot.rejects == {
        "hidden file": 1,
        "newer than the indexes": 1,
        "not a webdataset shard": 1,
        "truncated after record 18": 1,
    }
    listed = [item for item in labelled(settings, source, store) if item.reject is None]
    assert [item.key for item in listed[38:42]] == [
        "a.tar#000000038",
        "a.tar#000000039",
        "b/a.tar#000000000",
        "b/a.tar#000000001",
    ]
    info = source.stat("a.tar")
    assert info is not None
    assert {item.version for item in listed[:40]} == {info.version}
    assert [item.size for item in listed[:40]] == [len(image) for image, _ in shards.examples(40)]


def test_an_index_depends_on_the_version_and_the_names(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/")
    source.write("a.tar", b"x")
    (before,) = list_shards(data("webdataset", source.uri), source)
    source.write("a.tar", b"x")
    (after,) = list_shards(data("webdataset", source.uri), source)
    settings = data("webdataset", source.uri)
    keys = [index_key(settings, source, before), index_key(settings, source, after)]
    keys.append(index_key(data("webdataset", source.uri, label="txt"), source, after))
    assert len(set(keys)) == 3
    assert keys[1] == index_key(data("webdataset", source.uri, label="cls"), source, after)


def test_a_long_index_takes_bounded_memory(tmp_path: Path) -> None:
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    source.write("a.tar", b"x")
    settings = data("webdataset", source.uri)
    (shard,) = list_shards(settings, source)

    def long() -> Iterator[Record]:
        for i in range(60_000):
            yield Record(i, b"image", "ab"[i % 2], f"group {i}")

    tracemalloc.start()
    store.write(index_key(settings, source, shard), make_index(long()))
    count = sum(item.size == 5 for item in labelled(settings, source, store))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 10 * 2**20


@pytest.mark.parametrize("form", shards.MAKERS)
def test_the_records_of_a_shard_are_those_that_can_be_used(form: str, tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/a source/")
    (examples,) = shards.fill(source, form, shard_count=1).values()
    largest = sorted(len(image) for image, _ in examples)[-3]
    settings = shards.data_of(form, source, max_bytes=largest)
    (shard,) = list_shards(settings, source)
    found = {
        record.position: (record.encoded, record.label) for record in read_shard(settings, source, *version(shard))
    }
    assert found == {at: example for at, example in enumerate(examples) if len(example[0]) <= largest}
    assert 0 < len(found) < len(examples)


def test_of_a_broken_shard_what_can_be_read_is_read(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    ((key, examples),) = shards.fill(source, "webdataset", shard_count=1).items()
    source.write(key, source.read(key)[:40_000])
    settings = shards.data_of("webdataset", source)
    (shard,) = list_shards(settings, source)
    found = [record.encoded for record in read_shard(settings, source, *version(shard))]
    assert found == [image for image, _ in examples[: len(found)]]
    assert 0 < len(found) < len(examples)


def test_a_shard_that_changes_while_it_is_read_is_told_of_at_its_end(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    shards.fill(source, "webdataset", shard_count=1)
    settings = shards.data_of("webdataset", source)
    (shard,) = list_shards(settings, source)
    records = read_shard(settings, source, *version(shard))
    assert next(records).position == 0
    shards.fill(source, "webdataset", shard_count=1)
    with pytest.raises(StorageError, match=r"/x.tar changed while it was read: run again.$"):
        list(records)
    source.delete(shard.key)
    with pytest.raises(ObjectMissing, match=r"/x.tar was deleted in the meantime: run again.$"):
        list(read_shard(settings, source, *version(shard)))


def version(shard: ObjectInfo) -> tuple[str, str]:
    """A shard's key, and which version of it was listed."""
    return shard.key, shard.version
