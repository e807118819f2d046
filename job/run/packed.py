"""Packed sources, read with Ray Data: the index of each shard, and the records for the extract stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from job.config import Data
from job.data.packed import index_key, write_index
from job.errors import ObjectMissing
from job.run.actors import carried, rows_of
from job.storage import ObjectInfo, Store

if TYPE_CHECKING:
    import ray.data

TASKS = 2048
"""Ray tasks that the shards of a source are divided among, at most."""


def index_shards(
    data: Data, source: Store, store: Store, missing: dict[str, ObjectInfo], say: Callable[..., None]
) -> None:
    """Writes the indexes that `without_index` has found missing: a version of a shard is read for this only once.

    Needs Ray. Each index is written by the task that read its shard. Says `index` with done, of. Raises DataError
    where a shard has not the columns that `data.packed` names.
    """
    import ray.data

    items = [{"key": shard.key, "version": shard.version, "index": index} for index, shard in missing.items()]
    tasks = ray.data.from_items(items, override_num_blocks=min(len(items), TASKS))
    written = tasks.map(partial(_index_shard, data, source, store))
    for done, _ in enumerate(rows_of(written, "Reading the packed files", say), 1):
        say("index", done=done, of=len(items))


def read_records(
    data: Data, source: Store, shards: list[str], versions: Mapping[str, str] | None = None
) -> ray.data.Dataset:
    """The usable records of these shards: {shard: str, position: int, label: str, encoded: bytes}, in any order.

    Needs Ray. They are those whose index says so, and whose size is within `data.max_bytes`. With `versions`, a
    shard that has another one raises StorageError at its end; so does one that can't be read (`rows_of` raises it).
    """
    import ray.data

    from job.run.reader import RecordDatasource

    datasource = RecordDatasource(data, source, shards, versions)
    return ray.data.read_datasource(datasource, override_num_blocks=max(1, min(len(shards), TASKS)))


def without_index(data: Data, source: Store, store: Store, shards: list[ObjectInfo]) -> dict[str, ObjectInfo]:
    """The shards that have no index yet, by its key."""
    missing = {index_key(data, source, shard): shard for shard in shards}
    try:
        for info in store.list("indexes/"):
            missing.pop(info.key, None)
    except ObjectMissing:  # nothing was written to this folder so far
        pass
    return missing


@carried()
def _index_shard(data: Data, source: Store, store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """{key, version, index} -> {index}, which it writes."""
    write_index(data, source, store, row["key"], row["version"], row["index"])
    return {"index": row["index"]}
