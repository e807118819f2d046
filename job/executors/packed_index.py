"""Writes the indexes of packed sources: the records of each shard, once for each version of it."""

from __future__ import annotations

from functools import partial

from job.config import Data
from job.data.sources.packed import write_index
from job.executors import Executor
from job.run.events import Emit, ShardsIndexed
from job.storage import ObjectInfo, Store


def index_shards(
    data: Data,
    source: Store,
    store: Store,
    *,
    missing: dict[str, ObjectInfo],
    executor: Executor,
    emit: Emit,
) -> None:
    """Writes the indexes that `without_index` found missing. Each version of a shard is read only once for this.

    Emits ShardsIndexed. Raises DataError where a shard lacks the columns that `data.packed` names.
    """
    items = [(shard.key, shard.version, index) for index, shard in missing.items()]
    written = executor.map(
        partial(_write, data=data, source=source, store=store), items, "Reading the packed files", emit=emit
    )
    for done, _ in enumerate(written, 1):
        emit(ShardsIndexed(done=done, of=len(items)))


def _write(item: tuple[str, str, str], *, data: Data, source: Store, store: Store) -> None:
    shard, version, key = item
    write_index(data, source, store, shard=shard, version=version, key=key)
