"""A listing that is read more than once. It is kept in a local file, so that memory holds only a part of it."""

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
        self._path = path

    def keys(self) -> Iterator[pa.Array]:
        """The keys in the order of the listing, in arrays of at least one."""
        keys = (batch["key"] for batch in self._batches())
        while many := list(islice(keys, MANY)):
            yield pa.concat_arrays(many)

    def objects(self) -> Iterator[ObjectInfo]:
        return one_by_one(Objects(*(column.to_pylist() for column in batch.columns)) for batch in self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(self._path) as file, pa.ipc.open_file(file) as reader:
            yield from map(reader.get_batch, range(reader.num_record_batches))


@contextmanager
def spooled(pages: Iterable[Objects]) -> Iterator[Spool]:
    """Writes a whole listing to a local file, which is removed at the end."""
    with scratch() as folder:
        path = os.path.join(folder, "listing")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
            for page in filter(lambda page: page.keys, pages):
                columns = zip(page, SCHEMA.types, strict=True)
                writer.write_batch(pa.record_batch([pa.array(*column) for column in columns], schema=SCHEMA))
        yield Spool(path)
