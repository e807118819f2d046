"""Labels of examples, from their folders, from the rows of a label file, or from the records of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa

from job.config import Data
from job.data.selection import Selection, extension_of, kind_of, object_of
from job.data.sources.label_names import UNNAMED, names_key, read_names
from job.data.sources.label_values import trimmed
from job.data.sources.packed import ROWS, join_key, no_shards, read_indexes
from job.data.sources.table import read_table, text_version, with_resolved_keys
from job.data.splits import SPLITS, split_above, split_in
from job.data.spooled import Spool, spooled
from job.errors import DataError
from job.storage import ObjectInfo, Skipped, Store

NO_LABEL, NO_FOLDER = "no label", "not in a class folder"
EMPTY_FOLDER = "in a class folder without a name (a double slash)"
NO_PART = "in no folder of the split"
NO_SHARD, LATE = "not a shard", "newer than the indexes"
LETTERS = 30
"""Letters of an unknown split that a reason shows."""
NOT_IN_TABLE, KEYLESS = "not in the label file", "a row of the label file without a key"


class Listed(NamedTuple):
    """A listed object (a row of the label file, a record of a shard) with its label, or why it can't be used."""

    key: str
    size: int
    version: str
    label: str | None
    group: str | None = None
    reject: str | None = None
    split: str | None = None
    """The split that the label file, or a folder, gives; None where neither does."""
    modified: float | None = None
    """When the object was last written, in seconds since 1970."""
    left_out: str | None = None
    """The reason why the object is neither an example nor a reject; None for these."""


Note = Callable[[str], None]
"""Takes a sentence about something that was assumed."""


def labelled(
    data: Data,
    source: Store,
    store: Store | None = None,
    *,
    task: str = "image",
    links: Skipped | None = None,
    note: Note = lambda _: None,
) -> Iterator[Listed]:
    """Every object below the source in the order of its key, each with a label or a reason. Streams.

    The layout `table` holds the label file in memory (about 100 bytes a row, and the texts that are in it), and the
    listing, which it goes through more than once, in a file of this machine. Packed layouts give every record of every
    shard by its position, from the indexes in the store. `links` gets the keys of links that were not followed.
    """
    inside = store.uri.removeprefix(source.uri) if store and store.uri.startswith(source.uri) else None
    selection = Selection(data, task, inside)
    if data.layout == "folders":
        return _by_folder(source.list(skipped=links), data, selection)
    if data.is_packed:
        assert store is not None
        items = _by_record(data, source, store)
    else:
        items = (
            _by_table(data, source, links, note=note) if data.label_table.text is None else _by_text(data, source, note)
        )
    return (_selected(item, data, selection) for item in items)


class _Above(NamedTuple):
    """What the folders above an object say of it."""

    label: str | None
    reject: str | None
    split: str | None
    left_out: str | None


def _by_folder(objects: Iterable[ObjectInfo], data: Data, selection: Selection) -> Iterator[Listed]:
    """Objects of one folder come one after another: what it says is found out once."""
    latest, above = None, _Above(None, None, None, None)
    for info in objects:
        if left_out := selection.left_out(info.key):
            yield Listed(info.key, info.size, info.version, None, modified=info.modified, left_out=left_out)
            continue
        folder = info.key[: info.key.rfind("/") + 1]
        if folder != latest:
            latest, above = folder, _above(folder.split("/")[:-1], data)
        label, reject, split, left_out = above
        yield Listed(info.key, info.size, info.version, label, None, reject, split, info.modified, left_out)


def _above(folders: list[str], data: Data) -> _Above:
    split = None
    if data.split == "folders":
        at, split = split_in(folders) or (None, None)
        if split is None:
            return _Above(None, None, None, NO_PART)
        folders = [name for place, name in enumerate(folders) if place != at]
    place = data.class_folder - (data.class_folder > 0)
    there = -len(folders) <= place < len(folders)
    label = trimmed(folders[place]) if there else None
    return _Above(label, None if label else EMPTY_FOLDER if there else NO_FOLDER, split, None)


def _selected(item: Listed, data: Data, selection: Selection) -> Listed:
    """The item of a table or a packed file with its label trimmed, and left out where the job file says so."""
    key = object_of(item.key, data)
    if item.reject == NO_SHARD:
        return item._replace(reject=None, left_out=selection.left_out(key) or kind_of(extension_of(key)))
    # The records of shards, and the texts of a table, are of objects that were selected already.
    by_key = not data.is_packed and data.label_table.text is None
    if by_key and (reason := selection.left_out(key, listed=item.reject != NOT_IN_TABLE)):
        return item._replace(label=None, reject=None, left_out=reason)
    if data.split == "folders" and not item.reject:
        split = split_above(key, named=data.is_packed)
        item = item._replace(split=split, label=item.label if split else None, left_out=None if split else NO_PART)
    label = trimmed(item.label)
    lacks = label is None and not item.reject and not item.left_out
    return item._replace(label=label, reject=NO_LABEL if lacks else item.reject)


def _by_record(data: Data, source: Store, store: Store) -> Iterator[Listed]:
    """The records of all shards. A shard that was added or changed after the indexing is left to the next run."""
    shards, names, names_file = 0, read_names(data, source), names_key(data)
    for info, is_shard, index in read_indexes(data, source, store):
        if info.key == names_file:
            continue
        shards += is_shard
        if index is None:
            yield Listed(info.key, info.size, info.version, None, reject=LATE if is_shard else NO_SHARD)
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


def _by_table(data: Data, source: Store, links: Skipped | None, *, note: Note) -> Iterator[Listed]:
    table = read_table(data, source)
    with spooled(info for info in source.list(skipped=links) if f"{source.uri}{info.key}" != table.uri) as listing:
        table = with_resolved_keys(table, listing.keys, source.uri)
        for text in table.notes:
            note(text)
        yield from _merged(_rows(table.rows), listing)


def _merged(rows: Iterator[_Row], listing: Spool) -> Iterator[Listed]:
    """Joins the rows of the label file and the listing by key; both are sorted by ascending key."""
    row = next(rows, None)
    for info in listing.objects():
        while row is not None and row[0] < info.key:
            yield _without_object(row)
            row = next(rows, None)
        if row is None or row[0] != info.key:
            yield Listed(info.key, info.size, info.version, None, reject=NOT_IN_TABLE)
            continue
        _, label, group, split = row
        reason = _wrong(label, split)
        yield Listed(info.key, info.size, info.version, label or None, group, reason, split, info.modified)
        row = next(rows, None)
    while row is not None:
        yield _without_object(row)
        row = next(rows, None)


def _without_object(row: _Row) -> Listed:
    reason = "in the label file, but not in the source" if row[0] else KEYLESS
    return Listed(row[0], 0, "", row[1], reject=reason)


def _by_text(data: Data, source: Store, note: Note) -> Iterator[Listed]:
    """The rows of a table of texts by ascending key. A key with two labels or texts is rejected."""
    table = read_table(data, source)
    for text in table.notes:
        note(text)
    rows = table.rows
    for key, same in groupby(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True), itemgetter(0)):
        (_, label, group, split, text), *others = dict.fromkeys(same)
        reason = "there twice, with different labels or texts" if others else _wrong(label, split)
        reason = reason if key else KEYLESS
        known = None if reason else label
        yield Listed(key, len(text.encode()), text_version(text), known, group, reason, split)


def _wrong(label: str, split: str | None) -> str | None:
    if not label:
        return NO_LABEL
    if split is None or split in SPLITS:
        return None
    return f"its split {f'({split[:LETTERS]!r}) ' if split else ''}is none of {', '.join(SPLITS)}"


_Row = tuple[str, str, str | None, str | None]
"""key, label, group, split"""


def _rows(table: pa.Table) -> Iterator[_Row]:
    """The rows of a table by ascending key; equal rows once; a key with two labels, groups or splits is an error."""
    previous: _Row | None = None
    for batch in table.to_batches(max_chunksize=65_536):
        columns: Iterable[_Row] = zip(*(c.to_pylist() for c in batch.columns), strict=True)
        for row in columns:
            key = row[0]
            if previous is not None and key == previous[0]:
                if row != previous:
                    first, second = (" in ".join(filter(None, values[1:])) for values in (previous, row))
                    raise DataError(f"The label file gives {key!r} twice, as {first!r} and {second!r}: keep one row.")
                continue
            previous = row
            yield row
