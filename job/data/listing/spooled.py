"""Listings in local files, so that memory holds only a part of them."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from typing import Any

import pyarrow as pa

from job.storage import ObjectInfo
from job.storage.objects import PAGE, Objects, one_by_one
from job.storage.scratch import scratch

MANY = 256
"""Pages whose keys are in memory at a time."""
SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("modified", pa.float64())])
PACKED = pa.ipc.IpcWriteOptions(compression="lz4")
SORTED = 500_000
"""Objects that are sorted in memory."""


class Spool:
    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, pages: Iterable[Objects]) -> tuple[int, str]:
        """Returns the number of objects, and the last key (empty where there is none)."""
        objects, last = 0, ""
        with pa.OSFile(self.path, "wb") as file, pa.ipc.new_file(file, SCHEMA, options=PACKED) as writer:
            for page in pages:
                if page.keys:
                    writer.write_batch(_batch(page))
                    objects, last = objects + len(page.keys), page.keys[-1]
        return objects, last

    def write_sorted(self, pages: Iterable[Objects]) -> None:
        """Writes the objects by ascending keys. They are all in memory."""
        table = pa.Table.from_batches(map(_batch, pages), SCHEMA)
        with pa.OSFile(self.path, "wb") as file, pa.ipc.new_file(file, SCHEMA, options=PACKED) as writer:
            writer.write_table(table.sort_by("key"), max_chunksize=PAGE)

    def keys(self) -> Iterator[pa.Array]:
        """The keys in the order of the listing, in arrays of at least one."""
        keys = (batch["key"] for batch in self._batches())
        while many := list(islice(keys, MANY)):
            yield pa.concat_arrays(many)

    def pages(self) -> Iterator[Objects]:
        return (Objects(*(column.to_pylist() for column in batch.columns)) for batch in self._batches())

    def objects(self) -> Iterator[ObjectInfo]:
        return one_by_one(self.pages())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(self.path) as file, pa.ipc.open_file(file) as reader:
            yield from map(reader.get_batch, range(reader.num_record_batches))


@contextmanager
def spooled(pages: Iterable[Objects]) -> Iterator[Spool]:
    """A listing that is read more than once: in a local file, which is removed at the end."""
    with scratch() as folder:
        spool = Spool(os.path.join(folder, "listing"))
        spool.write(pages)
        yield spool


def sorted_by_key(pages: Iterable[Objects], folder: str) -> Iterator[Objects]:
    """The objects by ascending keys, whatever order the pages are in. SORTED of them are in memory, the others in files
    of the folder.
    """
    rest, spools = iter(pages), list[Spool]()
    while some := list(_first(rest, SORTED)):
        spools.append(Spool(os.path.join(folder, f"sorted-{len(spools)}")))
        spools[-1].write_sorted(some)
    yield from _merged([spool.pages() for spool in spools])


def _first(pages: Iterator[Objects], most: int) -> Iterator[Objects]:
    """Pages up to the one with which there are this many objects."""
    count = 0
    while count < most and (page := next(pages, None)) is not None:
        yield page
        count += len(page.keys)


def _merged(readers: list[Iterator[Objects]]) -> Iterator[Objects]:
    """The objects of all readers, each of which reads by ascending keys, by ascending keys."""
    heads = {reader: page for reader in readers if (page := next(reader, None))}
    while heads:
        bound = min(page.keys[-1] for page in heads.values())  # all up to there is in these pages
        rows = list[tuple[Any, ...]]()
        for reader, page in list(heads.items()):
            count = bisect_right(page.keys, bound)
            rows += islice(zip(*page, strict=True), count)
            left = Objects._make(column[count:] for column in page) if count < len(page.keys) else next(reader, None)
            if left is None:
                del heads[reader]
            else:
                heads[reader] = left
        yield Objects._make(map(list, zip(*sorted(rows, key=itemgetter(0)), strict=True)))


def _batch(page: Objects) -> pa.RecordBatch:
    return pa.record_batch([pa.array(*column) for column in zip(page, SCHEMA.types, strict=True)], schema=SCHEMA)
