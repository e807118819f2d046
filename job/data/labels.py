"""Labels of examples, from their folders, from the rows of a label file, or from the records of shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa

from job.config import Data
from job.data.caution import Caution, Note
from job.data.items import Items, Listed, in_columns
from job.data.listing import source_pages
from job.data.listing.spooled import Spool, spooled
from job.data.selection import Selection, extension_of, kind_of, object_of
from job.data.sources.label_names import UNNAMED, LabelNames, names_key, read_names
from job.data.sources.label_values import trimmed
from job.data.sources.packed import ROWS, join_key, no_shards, read_indexes
from job.data.sources.table import read_table, text_version, with_resolved_keys
from job.data.splits import SPLITS, split_above, split_in
from job.errors import DataError
from job.storage import ObjectInfo, Skipped, Store
from job.storage.objects import Objects, without

NO_LABEL, NO_FOLDER = "no label", "not in a class folder"
EMPTY_FOLDER = "in a class folder without a name (a double slash)"
NO_PART = "in no folder of the split"
LATE = "newer than the indexes"
LETTERS = 30
"""Letters of an unknown split that a reason shows."""
NOT_IN_TABLE, KEYLESS = "not in the label file", "a row of the label file without a key"


def labelled(
    data: Data,
    source: Store,
    store: Store | None = None,
    *,
    task: str = "image",
    links: Skipped | None = None,
    note: Note = lambda _: None,
) -> Iterator[Items]:
    """Every object below the source in the order of its key, each with a label or a reason. Streams.

    The layout `table` holds the label file in memory (about 100 bytes a row, and the texts that are in it), and the
    listing, which it goes through more than once, in a file of this machine. Packed layouts give every record of every
    shard by its position, from the indexes in the store. `links` gets the keys of links that were not followed.
    """
    inside = store.uri.removeprefix(source.uri) if store and store.uri.startswith(source.uri) else None
    selection = Selection(data, task, inside)
    if data.layout == "folders":
        pages = source_pages(data, source, skipped=links, keep=store, note=note)
        return (_by_folder(page, data, selection) for page in pages)
    if data.is_packed:
        assert store is not None
        items = _by_record(data, source, store, selection=selection, note=note)
    elif data.label_table.text is None:
        pages = source_pages(data, source, skipped=links, keep=store, note=note)
        items = (_chosen(some, selection) for some in in_columns(_by_table(data, source, pages, note=note)))
    else:
        items = in_columns(_by_text(data, source, note))
    return (_trimmed(_divided(some, data) if data.split == "folders" else some) for some in items)


class _Above(NamedTuple):
    """What the folders above an object say of it."""

    label: str | None
    reject: str | None
    split: str | None
    left_out: str | None


def _by_folder(page: Objects, data: Data, selection: Selection) -> Items:
    """What the folders above an object say is found out once for all objects of a page that are in them."""
    folders = [key[: key.rfind("/") + 1] for key in page.keys]
    above = {folder: _above(folder.split("/")[:-1], data) for folder in dict.fromkeys(folders)}
    labels, rejects, splits, without_split = zip(*map(above.__getitem__, folders), strict=True)
    out = [
        reason or other for reason, other in zip(selection.all_left_out(page.keys, folders), without_split, strict=True)
    ]
    groups = [None] * len(folders)
    return Items(page.keys, page.sizes, page.versions, labels, groups, rejects, splits, page.modified, out)


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


def _chosen(items: Items, selection: Selection) -> Items:
    """Leaves out objects of a label file's source as the job file says: it may say so of any that the file names."""
    chosen = [
        selection.left_out(key, listed=reject != NOT_IN_TABLE)
        for key, reject in zip(items.key, items.reject, strict=True)
    ]
    return items._replace(left_out=chosen)


def _divided(items: Items, data: Data) -> Items:
    """The items with the split that the folders above their objects mean; those in no such folder are left out."""
    objects = [object_of(key, data) for key in items.key]
    found = {key: split_above(key, named=data.is_packed) for key in dict.fromkeys(objects)}
    splits = list(map(found.__getitem__, objects))
    without = zip(items.left_out, items.reject, splits, strict=True)
    return items._replace(
        split=splits, left_out=[out or (None if reject or split else NO_PART) for out, reject, split in without]
    )


def _trimmed(items: Items) -> Items:
    """The items with trimmed labels; those without one are rejects."""
    names = {label: trimmed(label) for label in dict.fromkeys(items.label)}
    labels = list(map(names.__getitem__, items.label))
    rejects = items.reject
    if None in names.values():
        without = zip(labels, rejects, strict=True)
        rejects = [reject or (NO_LABEL if label is None else None) for label, reject in without]
    return items._replace(label=labels, reject=rejects)


def _by_record(data: Data, source: Store, store: Store, *, selection: Selection, note: Note) -> Iterator[Items]:
    """The records of all shards. A shard that was added or changed after the indexing is left to the next run."""
    shards, names, names_file = 0, read_names(data, source), names_key(data)
    for info, is_shard, index in read_indexes(data, source, store, note=note):
        if info.key == names_file:
            continue
        shards += is_shard
        if index is not None:
            yield from (_records(info, batch, names) for batch in index.iter_batches(ROWS))
            continue
        late = LATE if is_shard else None
        no_shard = None if is_shard else selection.left_out(info.key) or kind_of(extension_of(info.key))
        yield from in_columns([Listed(*info[:3], None, None, late, None, info.modified, no_shard)])
    if not shards:
        raise no_shards(data, source)


def _records(shard: ObjectInfo, batch: pa.RecordBatch, names: LabelNames | None) -> Items:
    """The records of a part of a shard's index."""
    positions, sizes, labels, groups, rejects = (column.to_pylist() for column in batch.columns)
    keys = [shard.key if position is None else join_key(shard.key, position) for position in positions]
    if names is not None:
        found = {label: names.name(label) for label in dict.fromkeys(labels) if label is not None}
        unnamed = {label for label, name in found.items() if name is None}
        rejects = [reject or (UNNAMED if at in unnamed else None) for at, reject in zip(labels, rejects, strict=True)]
        labels = [found.get(label) or label for label in labels]
    every = [None] * len(keys)
    times = [shard.modified] * len(keys)
    return Items(keys, sizes, [shard.version] * len(keys), labels, groups, rejects, every, times, every)


def _by_table(data: Data, source: Store, pages: Iterable[Objects], *, note: Note) -> Iterator[Listed]:
    table = read_table(data, source)
    itself = table.uri.removeprefix(source.uri)
    with spooled(without(page, itself) for page in pages) as listing:
        table = with_resolved_keys(table, listing.keys, source.uri)
        for text in table.notes:
            note(Caution("data.table", text))
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
        note(Caution("data.table", text))
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
