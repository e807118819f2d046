"""What an example's label is: its folder, a row of a label file, or a part of its record in a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from job.config import Data
from job.data.label_names import UNNAMED, names_key, read_names
from job.data.packed import ROWS, is_hidden, join_key, no_shards, read_indexes
from job.data.splits import SPLITS
from job.data.table import read_table, text_version
from job.errors import DataError
from job.storage import ObjectInfo, Store


@dataclass(frozen=True)
class Listed:
    """A listed object (a row of the label file, a record of a shard) with its label, or why it can't be used."""

    key: str
    size: int
    version: str
    label: str | None
    group: str | None = None
    reject: str | None = None
    split: str | None = None
    """Where the label file says so."""
    modified: float | None = None
    """When the object was last written, in seconds since 1970."""


def labelled(data: Data, source: Store, store: Store | None = None) -> Iterator[Listed]:
    """Every object below the source in the order of its key, each with a label or a reason. Streams.

    The layout `table` holds the label file in memory (about 100 bytes a row, and the texts that are in it), never the
    listing. Packed layouts give every record of every shard by its position, from the indexes in the store.
    """
    if data.layout == "folders":
        return (_by_folder(info) for info in source.list())
    if data.is_packed:
        assert store is not None
        return _by_record(data, source, store)
    return _by_table(data, source) if data.label_table.text is None else _by_text(data, source)


def _by_folder(info: ObjectInfo) -> Listed:
    label, slash, _ = info.key.partition("/")
    reason = _junk(info.key) or (None if slash else "not in a class folder")
    return Listed(info.key, info.size, info.version, None if reason else label, reject=reason, modified=info.modified)


def _junk(key: str) -> str | None:
    return "hidden file" if is_hidden(key) else None


def _by_record(data: Data, source: Store, store: Store) -> Iterator[Listed]:
    """A shard that came, or changed, after the others were indexed is left to the next run."""
    shards, names, names_file = 0, read_names(data, source), names_key(data)
    for info, is_shard, index in read_indexes(data, source, store):
        if info.key == names_file:
            continue
        shards += is_shard
        if index is None:
            reason = "newer than the indexes" if is_shard else f"not a {data.layout} shard"
            yield Listed(info.key, info.size, info.version, None, reject=_junk(info.key) or reason)
            continue
        for batch in index.iter_batches(ROWS):
            for position, size, *rest in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                key = info.key if position is None else join_key(info.key, position)
                label, group, reject = rest
                if names is not None and label is not None:
                    name = names.name(label)
                    label, reject = name or label, reject or (None if name else UNNAMED)
                yield Listed(key, size, info.version, label, group, reject, modified=info.modified)
    if not shards:
        raise no_shards(data, source)


def _by_table(data: Data, source: Store) -> Iterator[Listed]:
    spec = data.label_table
    rows = _rows(read_table(data, source))
    row = next(rows, None)
    for info in source.list():
        if info.key == spec.file:
            continue
        while row is not None and row[0] < info.key:
            yield Listed(row[0], 0, "", row[1], reject="in the label file, but not in the source")
            row = next(rows, None)
        if row is None or row[0] != info.key:
            yield Listed(info.key, info.size, info.version, None, reject=_junk(info.key) or "not in the label file")
            continue
        _, label, group, split = row
        reason = _wrong(label, split)
        yield Listed(info.key, info.size, info.version, label or None, group, reason, split, info.modified)
        row = next(rows, None)
    while row is not None:
        yield Listed(row[0], 0, "", row[1], reject="in the label file, but not in the source")
        row = next(rows, None)


def _by_text(data: Data, source: Store) -> Iterator[Listed]:
    """The rows of a table of texts by ascending key; what says two things of one key is rejected."""
    rows = read_table(data, source).sort_by("key")
    for key, same in groupby(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True), itemgetter(0)):
        (_, label, group, split, text), *others = dict.fromkeys(same)
        reason = "there twice, with different labels or texts" if others else _wrong(label, split)
        known = None if reason else label
        yield Listed(key, len(text.encode()), text_version(text), known, group, reason, split)


def _wrong(label: str, split: str | None) -> str | None:
    if not label:
        return "empty label"
    return None if split is None or split in SPLITS else f"its split is none of {', '.join(SPLITS)}"


_Row = tuple[str, str, str | None, str | None]
"""key, label, group, split"""


def _rows(table: pa.Table) -> Iterator[_Row]:
    """By ascending key; equal rows once; a key with two labels, groups or splits is an error."""
    previous: _Row | None = None
    for batch in table.sort_by("key").to_batches(max_chunksize=65_536):
        columns: Iterable[_Row] = zip(*(c.to_pylist() for c in batch.columns), strict=True)
        for row in columns:
            key = row[0]
            if previous is not None and key == previous[0]:
                if row != previous:
                    first, second = (" in ".join(filter(None, some[1:])) for some in (previous, row))
                    raise DataError(f"The label file gives {key!r} twice, as {first!r} and {second!r}: keep one row.")
                continue
            previous = row
            yield row
