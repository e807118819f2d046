"""Listings in local files, so that memory holds only a part of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import pyarrow as pa

from job.storage import ObjectInfo
from job.storage.objects import Objects, one_by_one
from job.storage.scratch import scratch

MANY = 256
"""Pages whose keys are in memory at a time."""
SCHEMA = pa.schema([("key", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("modified", pa.float64())])


class Spool:
    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, pages: Iterable[Objects]) -> tuple[int, str]:
        """Returns the number of objects, and the last key (empty where there is none)."""
        objects, last = 0, ""
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(self.path, "wb") as file, pa.ipc.new_file(file, SCHEMA, options=options) as writer:
            for page in pages:
                if page.keys:
                    columns = zip(page, SCHEMA.types, strict=True)
                    writer.write_batch(pa.record_batch([pa.array(*column) for column in columns], schema=SCHEMA))
                    objects, last = objects + len(page.keys), page.keys[-1]
        return objects, last

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
