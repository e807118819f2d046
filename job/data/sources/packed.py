"""Packed sources: objects (shards) that hold many images each, and the index of what is in one.

An example's key is its shard and its position there: `train/00017.tar#000000042`. Its version is the shard's.

indexes/<digest>.parquet   per version of a shard and names of its parts: position, size, label, group, reject
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
import pyarrow.parquet as pq

from job.config import Data
from job.data.caution import Note
from job.data.listing import source_pages
from job.data.selection import Selection
from job.data.sources.parquet import read_parquet
from job.data.sources.records import BrokenShard, Record, WrongLayout, make_record, printable
from job.data.sources.signature import layout_of
from job.data.sources.sniffing import describe_first_objects, first_bytes, first_of
from job.data.sources.tfrecord import read_tfrecord
from job.data.sources.webdataset import read_webdataset
from job.errors import DataError, ObjectMissing, StorageError
from job.storage import ObjectInfo, Store, arrow_errors
from job.storage.objects import one_by_one

FORMAT = 3
"""The version of indexes, part of their keys: raise it when the readers read a shard differently."""
NUMBERS, TEXTS = ("position", "size"), ("label", "group", "reject")
INDEX = pa.schema([*((name, pa.int64()) for name in NUMBERS), *((name, pa.string()) for name in TEXTS)])
"""A row for each record by ascending position, and one without a position where the shard itself is broken.

`size`: bytes of the encoded image.
"""
BUFFER = 8 * 2**20
"""Bytes of a shard that one request to the storage reads."""
ROWS = 16_384
"""Rows of an index that are in memory at a time."""
READ_AHEAD = 16
"""Indexes that are read at a time."""

READERS = {"webdataset": read_webdataset, "parquet": read_parquet, "tfrecord": read_tfrecord}
SHARDS = {
    "webdataset": re.compile(r".+\.(tar(\.(gz|bz2|xz|zstd?))?|tgz|tbz2?|txz|tzst)"),
    "parquet": re.compile(r".+\.(parquet|parq|pq)(\.(gz|gzip|snappy|zstd?|br|brotli))?"),
    "tfrecord": re.compile(
        r".+(\.(tfrecords?|tfrec|tfr|records?)(-\d+-of-\d+)?|-\d{4,}-of-\d{4,})(\.(gz|gzip|zlib|z))?"
    ),
}
"""The names of shards, in lower case. Their first bytes, not their names, say whether they are compressed."""
WANTED = {
    "webdataset": ".tar (also .tar.gz, .tgz, .tar.zst and the like)",
    "parquet": ".parquet or .pq",
    "tfrecord": ".tfrecord, .tfrecords, .tfrec or .record, or …-00000-of-00010",
}
LOOKED_INTO = 1000
"""Objects whose first bytes are read before the error that there is no shard."""


def is_shard(data: Data, key: str, selection: Selection | None = None) -> bool:
    """Whether an object is a shard, by its name or by `data.include`. Callers that ask often pass the `selection`."""
    if (selection or Selection(data, "image")).left_out(key):
        return False
    return data.include is not None or SHARDS[data.layout].fullmatch(key.lower()) is not None


def list_shards(data: Data, source: Store) -> list[ObjectInfo]:
    """The source's shards by ascending key: by their names, or where no name fits, by their first bytes.

    Raises DataError where there is none.
    """
    selection = Selection(data, "image")
    listed = one_by_one(source_pages(data, source))
    shards = [info for info in listed if is_shard(data, info.key, selection)] or _nameless_shards(data, source)
    if not shards:
        raise no_shards(data, source)
    return shards


def no_shards(data: Data, source: Store) -> DataError:
    return DataError(
        f"{source.uri} has no shards. data.layout {data.layout} wants files {WANTED[data.layout]} below the source."
        f"{describe_first_objects(source, _visible(data, source))}"
    )


def _nameless_shards(data: Data, source: Store) -> list[ObjectInfo]:
    shards = list[ObjectInfo]()
    for number, (info, first) in enumerate(first_bytes(source, _visible(data, source))):
        if layout_of(first) == data.layout:
            shards.append(info)
        elif not shards and number >= LOOKED_INTO:
            break
    return shards


def _visible(data: Data, source: Store) -> Iterator[ObjectInfo]:
    selection = Selection(data, "image")
    return (info for info in one_by_one(source_pages(data, source)) if not selection.left_out(info.key))


def join_key(shard: str, position: int) -> str:
    return f"{shard}#{position:09d}"


def split_key(key: str) -> tuple[str, int]:
    """An example's key -> its shard's key and its position there."""
    shard, _, position = key.rpartition("#")
    return shard, int(position)


def shards_of(keys: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """The shards that records (by their keys) are in, and the place of that of each record among them, int32 [n]."""
    shards = pc.replace_substring_regex(keys, "#[^#]*$", "").dictionary_encode().combine_chunks()
    return shards.dictionary.to_pylist(), shards.indices.to_numpy()


def open_shard(filesystem: pa.fs.FileSystem, path: str, data: Data) -> pa.NativeFile:
    if data.layout == "parquet":
        return filesystem.open_input_file(path)
    return filesystem.open_input_stream(path, compression=None, buffer_size=BUFFER)


def records_of(file: pa.NativeFile, data: Data, uri: str) -> Iterator[Record]:
    """Every record of a shard in its order, a few in memory at a time.

    A broken shard gives the records that can be read, and then a record without a position that says where it broke.
    Raises OSError where the storage fails, and DataError where a Parquet file lacks the columns.
    """
    position, names = -1, data.record_names
    try:
        for position, fields in enumerate(READERS[data.layout](file, names, uri)):
            yield make_record(position, fields, names)
    except BrokenShard as broken:
        if isinstance(broken, WrongLayout):
            yield Record(None, reject=printable(str(broken)))
            return
        where = f"after record {position}" if position >= 0 else "before its first record"
        yield Record(None, reject=printable(f"{broken} {where}"))


def usable_records(file: pa.NativeFile, data: Data, uri: str) -> Iterator[Record]:
    """The records of a shard that are no rejects, and whose size is within `data.max_bytes`."""
    for record in records_of(file, data, uri):
        if not record.reject and 0 < len(record.encoded) <= data.max_bytes:
            yield record


def read_shard(data: Data, source: Store, shard: str, *, version: str) -> Iterator[Record]:
    """The usable records of a shard. Raises StorageError, at its end, where the shard has another version."""
    uri = source.uri + shard
    with arrow_errors(uri):
        filesystem, root = source.arrow()
        with open_shard(filesystem, f"{root}/{shard}", data) as file:
            yield from usable_records(file, data, uri)
    check_version(source, shard, version)


def index_key(data: Data, source: Store, shard: ObjectInfo) -> str:
    """The key of a shard's index. All jobs share the index of the same shard, version and names."""
    names = data.record_names.model_dump(exclude={"names"})
    names["numbered"] = data.record_names.names is not None
    meaning = [FORMAT, source.uri, shard.key, shard.version, data.layout, names]
    return f"indexes/{hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()[:32]}.parquet"


def make_index(records: Iterable[Record]) -> bytes:
    """The content of a shard's index file. Holds one image in memory at a time."""
    rows = ((r.position, len(r.encoded), r.label, r.group, r.reject) for r in records)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, INDEX, compression="zstd") as writer:
        while part := list(islice(rows, ROWS)):
            columns = zip(zip(*part, strict=True), INDEX.types, strict=True)
            writer.write_table(pa.table([pa.array(*column) for column in columns], schema=INDEX))
    return buffer.getvalue()


def write_index(data: Data, source: Store, store: Store, *, shard: str, version: str, key: str) -> None:
    """Reads a whole shard and writes its index. Raises DataError where it lacks columns that `data.packed` names."""
    uri = source.uri + shard
    with arrow_errors(uri):
        filesystem, root = source.arrow()
        with open_shard(filesystem, f"{root}/{shard}", data) as file:
            content = make_index(records_of(file, data, uri))
    check_version(source, shard, version)
    store.write(key, content)


def without_index(data: Data, source: Store, store: Store, *, shards: list[ObjectInfo]) -> dict[str, ObjectInfo]:
    """The shards that have no index yet, by the key of the index."""
    missing = {index_key(data, source, shard): shard for shard in shards}
    try:
        for info in store.list("indexes/"):
            missing.pop(info.key, None)
    except ObjectMissing:  # nothing was written to this folder so far
        pass
    return missing


def check_version(source: Store, shard: str, version: str) -> None:
    """Raises StorageError where the shard has changed since it was listed: what was read may be of either version."""
    info = source.stat(shard)
    if info is None or info.version != version:
        raise StorageError(f"{source.uri}{shard} changed while it was read: run again.")


class Indexed(NamedTuple):
    """A listed object with its index."""

    info: ObjectInfo
    is_shard: bool
    records: pq.ParquetFile | None
    """The index of the object; None where it has none."""


def read_indexes(data: Data, source: Store, store: Store, *, note: Note = lambda _: None) -> Iterator[Indexed]:
    """Every listed object in its order, with its index. Holds a few indexes in memory. Assumptions go to `note`."""
    selection = Selection(data, "image")
    named = any(is_shard(data, info.key, selection) for info in one_by_one(source_pages(data, source)))

    def read(info: ObjectInfo) -> Indexed:
        """Where some objects are `named` like shards, only those are shards; else those with an index, or with the
        first bytes of a shard.
        """
        may_be = is_shard(data, info.key, selection) if named else not selection.left_out(info.key)
        return _read_index(data, source, store, info=info, named=named) if may_be else Indexed(info, False, None)

    with ThreadPoolExecutor(READ_AHEAD) as pool:
        ahead: deque[Future[Indexed]] = deque()
        for info in one_by_one(source_pages(data, source, note=note)):
            ahead.append(pool.submit(read, info))
            if len(ahead) > READ_AHEAD:
                yield ahead.popleft().result()
        for indexed in ahead:
            yield indexed.result()


def _read_index(data: Data, source: Store, store: Store, *, info: ObjectInfo, named: bool) -> Indexed:
    try:
        return Indexed(info, True, pq.ParquetFile(io.BytesIO(store.read(index_key(data, source, info)))))
    except ObjectMissing:
        return Indexed(info, named or layout_of(first_of(source, info)) == data.layout, None)
