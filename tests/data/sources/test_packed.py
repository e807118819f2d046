from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from job.config import Data
from job.data.labels import labelled
from job.data.snapshot import take_snapshot
from job.data.sources.packed import (
    index_key,
    is_shard,
    join_key,
    list_shards,
    make_index,
    read_shard,
    records_of,
    split_key,
)
from job.data.sources.records import Record
from job.errors import DataError, ObjectMissing, StorageError
from job.storage import Store, open_store
from support import shards
from support.listed import list_items
from support.packed import read


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


NAMES = {
    "webdataset": ["a.tar", "A.TAR", "b/a.tar.gz", "a.tgz", "a.tar.zst", "a.tar.bz2"],
    "parquet": ["a.parquet", "a.PQ", "a.snappy.parquet", "df.parquet.gzip", "train-00000-of-00001.parquet"],
    "tfrecord": [
        *("a.tfrecord", "b/A.TFRecords", "a.tfrec", "a.record", "a.records", "a.tfrecord.gz"),
        *("train.tfrecord-00003-of-00010", "train-00003-of-00010", "a.record-00000-of-00100"),
    ],
}


@pytest.mark.parametrize("layout", NAMES)
def test_the_usual_names_of_shards_are_known(layout: str) -> None:
    others = [name for other in NAMES if other != layout for name in NAMES[other]]
    for name in NAMES[layout]:
        assert is_shard(data(layout), name)
        assert not is_shard(data(layout), f".{name}")
    assert not any(is_shard(data(layout), name) for name in (*others, "a.jpg", "README", "a.tar.txt"))


@pytest.mark.parametrize("form", ["webdataset", "parquet", "tfrecord"])
def test_where_nothing_is_called_like_a_shard_first_bytes_tell(form: str, tmp_path: Path) -> None:
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    _, _, make = shards.MAKERS[form]
    settings = data(form, source.uri)
    content = make(shards.examples(60))
    for key in ("part-0000", "part-0001", ".part-0002"):
        source.write(key, content)
    source.write("README", b"read me")
    assert [shard.key for shard in list_shards(settings, source)] == ["part-0000", "part-0001"]
    index(settings, source, store)
    source.write("part-0003", gzip.compress(content) if form != "parquet" else content)
    snapshot = take_snapshot(settings, source, store)
    assert snapshot.examples == 120
    assert snapshot.rejects == {"newer than the indexes": 1}
    assert snapshot.left_out == {"hidden or of the system": 1, "without extension": 1}
    source.write(f"z.{shards.MAKERS[form][1]}", content)
    assert [shard.key for shard in list_shards(settings, source)] == [f"z.{shards.MAKERS[form][1]}"]


def test_a_source_without_shards_says_what_it_has_and_what_reads_it(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    source.write("a/README.md", b"read me")
    for key, content, told in (
        ("a/x.png", shards.examples(1)[0][0], "x.png is a PNG picture: data.layout: folders, or table, reads"),
        ("b.parquet", shards.plain_parquet_of(shards.examples(1)), "b.parquet is a Parquet file: data.layout: parquet"),
        ("c.zip", b"PK\3\4" + bytes(40), r"c.zip is a ZIP archive .*: unpack it"),
        ("d.arrow", b"ARROW1" + bytes(40), r"d.arrow is an Arrow \(Feather\) file: write it as Parquet"),
        ("e", b"\1\2\3\4", "e is nothing that is known"),
    ):
        source.write(key, content)
        with pytest.raises(DataError, match=rf"wants files .tar .* below the source. file://.*{told}"):
            list_shards(data("webdataset", source.uri), source)
        source.delete(key)


@pytest.mark.parametrize("layout", ["webdataset", "parquet", "tfrecord"])
def test_a_shard_of_another_layout_says_which_one_reads_it(layout: str) -> None:
    kinds = {"webdataset": "a tar archive", "parquet": "a Parquet file", "tfrecord": "a TFRecord file"}
    for other, what in kinds.items():
        content = shards.MAKERS[other][2](shards.examples(2))
        (record, *_) = read(content, layout)
        said = f"not {kinds[layout]} but {what}: data.layout: {other} reads it"
        assert record.reject == (said if other != layout else None)
    (record,) = read(b"<html><body>Access denied", layout)
    assert str(record.reject).startswith(f"not {kinds[layout]} but an HTML page")


def test_a_tar_file_whose_first_name_looks_like_a_signature_is_one() -> None:
    rows = {f"{name}.{end}": b"1" for name in ("BMW", "ID3", "PK\3\4", "GIF8") for end in ("jpg", "cls")}
    assert [record.label for record in read(shards.tar_of(rows), "webdataset")] == ["1"] * 4


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
    assert snapshot.rejects == {"newer than the indexes": 1, "truncated after record 18": 1}
    assert snapshot.left_out == {"hidden or of the system": 1, ".md": 1}
    listed = [item for item in list_items(settings, source, store) if item.label is not None]
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
    count = sum(size == 5 for items in labelled(settings, source, store) for size in items.size)
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
        record.position: (record.encoded, record.label)
        for record in read_shard(settings, source, shard.key, version=shard.version)
    }
    assert found == {at: example for at, example in enumerate(examples) if len(example[0]) <= largest}
    assert 0 < len(found) < len(examples)


def test_of_a_broken_shard_what_can_be_read_is_read(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    ((key, examples),) = shards.fill(source, "webdataset", shard_count=1).items()
    source.write(key, source.read(key)[:40_000])
    settings = shards.data_of("webdataset", source)
    (shard,) = list_shards(settings, source)
    found = [record.encoded for record in read_shard(settings, source, shard.key, version=shard.version)]
    assert found == [image for image, _ in examples[: len(found)]]
    assert 0 < len(found) < len(examples)


def test_a_shard_that_changes_while_it_is_read_is_told_of_at_its_end(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    shards.fill(source, "webdataset", shard_count=1)
    settings = shards.data_of("webdataset", source)
    (shard,) = list_shards(settings, source)
    records = read_shard(settings, source, shard.key, version=shard.version)
    assert next(records).position == 0
    shards.fill(source, "webdataset", shard_count=1)
    with pytest.raises(StorageError, match=r"/x.tar changed while it was read: run again.$"):
        list(records)
    source.delete(shard.key)
    with pytest.raises(ObjectMissing, match=r"/x.tar was deleted in the meantime: run again.$"):
        list(read_shard(settings, source, shard.key, version=shard.version))
