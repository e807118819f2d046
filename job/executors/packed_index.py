"""The indexes of packed sources: what is in each shard, written down once for each of its versions."""

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
    missing: dict[str, ObjectInfo],
    executor: Executor,
    emit: Emit,
) -> None:
    """Writes the indexes that `without_index` has found missing: a version of a shard is read for this only once.

    Says `index` with done, of. Raises DataError where a shard has not the columns that `data.packed` names.
    """
    items = [(shard.key, shard.version, index) for index, shard in missing.items()]
    written = executor.map(partial(_write, data, source, store), items, "Reading the packed files", emit)
    for done, _ in enumerate(written, 1):
        emit(ShardsIndexed(done=done, of=len(items)))


def _write(data: Data, source: Store, store: Store, item: tuple[str, str, str]) -> None:
    write_index(data, source, store, *item)
