"""What the listing tells of the examples, without a write to the store."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from job.config import Data, Job
from job.data.class_weights import check_class_weights
from job.data.labels import LATE
from job.data.snapshot import Snapshot, listing
from job.data.sources.packed import list_shards, without_index, write_index
from job.data.splits import SPLITS
from job.errors import DataError
from job.features.rows import Rows
from job.features.store import ADDRESS, address_of
from job.storage import Store

SAMPLE = 256
"""Examples, drawn at random, whose headers are read."""
ROWS = 8192
UNINDEXED = 256 * 2**20
"""Bytes of packed files that are read for this where they have no index yet."""


class Row(NamedTuple):
    """An example of the snapshot."""

    key: str
    size: int
    version: str
    label: str


@dataclass(frozen=True)
class Seen:
    """The examples, as listed."""

    snapshot: Snapshot
    table: str
    """The path of the snapshot's table on this machine."""
    share: float
    """The part of the source (by bytes) that the counts are of: 1 but for packed files without an index."""
    seconds: float


@contextmanager
def seen(job: Job, source: Store, store: Store) -> Iterator[Seen]:
    """Lists the source; `store` keeps the indexes made for this. Raises DataError and JobError as a run would, but for
    what only all of a source tells where a part of it is read.
    """
    started, data = time.monotonic(), job.data
    share = _index(data, source, store) if data.is_packed else 1.0
    with listing(data, source, store, task=job.task, whole=share == 1) as listed:
        snapshot = listed.snapshot
        if share == 1:
            check_class_weights(job.train.class_weights, snapshot.classes)
        else:  # what was left out here is none of the run's rejects
            rejects = {reason: count for reason, count in snapshot.rejects.items() if reason != LATE}
            snapshot = replace(snapshot, rejects=rejects)
        yield Seen(snapshot, listed.examples, share, time.monotonic() - started)


def _index(data: Data, source: Store, store: Store) -> float:
    """Reads some of the packed files that have no index, at random; the part of all bytes that then has one."""
    shards = list_shards(data, source)
    missing = list(without_index(data, source, store, shards=shards).items())
    room, read = UNINDEXED, 0
    for index, shard in random.Random(0).sample(missing, len(missing)):
        if shard.size <= room:
            write_index(data, source, store, shard=shard.key, version=shard.version, key=index)
            room, read = room - shard.size, read + 1
    if read == len(missing):
        return 1.0
    if not read and len(missing) == len(shards):
        smallest = min(shard.size for shard in shards)
        raise DataError(
            f"{source.uri}: none of its {len(shards)} packed files has been read for its labels, and the smallest has "
            f"{smallest / 2**20:,.0f} MiB, too many to be read for a plan: `thaw run` reads each of them once."
        )
    total = sum(shard.size for shard in shards)
    return 1 - (sum(shard.size for _, shard in missing) - (UNINDEXED - room)) / total


def sampled(seen: Seen) -> list[Row]:
    """SAMPLE of the examples, the same ones each time, in the order of their keys."""
    total = seen.snapshot.examples
    return chosen(seen, sorted(random.Random(0).sample(range(total), min(SAMPLE, total))))


def chosen(seen: Seen, places: list[int]) -> list[Row]:
    """The examples at these places of the snapshot."""
    table = ds.dataset(seen.table).take(pa.array(places, pa.int64()), columns=list(Row._fields), batch_size=ROWS)
    return [Row(**row) for row in table.to_pylist()]


def numbers(seen: Seen, source: str) -> Rows:
    """The numbers of every example of `source` (a URI)."""
    index = {label: i for i, label in enumerate(seen.snapshot.classes)}
    addresses, splits, labels = list[bytes](), list[np.ndarray](), list[np.ndarray]()
    with pq.ParquetFile(seen.table) as table:
        for batch in table.iter_batches(ROWS, columns=["key", "version", "label", "split"]):
            keys, versions, names, sides = (column.to_pylist() for column in batch.columns)
            addresses.append(b"".join(address_of(source, *pair) for pair in zip(keys, versions, strict=True)))
            splits.append(np.array([SPLITS.index(side) for side in sides], np.int8))
            labels.append(np.array([index[name] for name in names], np.int32))
    return Rows(np.frombuffer(b"".join(addresses), ADDRESS), np.concatenate(splits), np.concatenate(labels))
