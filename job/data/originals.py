"""Reads a few examples from the source by their keys, to be shown to the user."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from job.config import Data
from job.data.snapshot import Snapshot, read_snapshot
from job.data.sources.packed import open_shard, records_of, split_key
from job.data.sources.table import object_reader
from job.errors import ObjectMissing, ThawError
from job.storage import Store, arrow_errors

READERS = 8
"""Objects that are read at a time."""
DEEPEST = 256 * 2**20
"""Bytes of examples that are read of a shard, from its beginning; an example further in is not looked for."""
CHANGED = "deleted or overwritten since it was listed"


def read_originals(
    data: Data, source: Store, store: Store, *, snapshot: Snapshot, keys: list[str]
) -> dict[str, bytes | str]:
    """By key, the encoded example (bytes), or the reason why it can't be read (str), also for errors of the source."""
    table = read_snapshot(store, snapshot, ["key", "version"])
    at = pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks()).to_pylist()
    versions = {key: table["version"][row].as_py() for key, row in zip(keys, at, strict=True) if row is not None}
    try:
        originals = _records(data, source, versions) if data.is_packed else _objects(data, source, versions)
    except (ThawError, OSError) as error:
        return dict.fromkeys(keys, str(error))
    return {key: originals.get(key, CHANGED) for key in keys}


def _objects(data: Data, source: Store, versions: dict[str, str]) -> dict[str, bytes | str]:
    read = object_reader(data, source)

    def read_object(key: str) -> bytes | str:
        try:
            return read(key, versions[key])
        except ObjectMissing:
            return CHANGED
        except (ThawError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(versions, pool.map(read_object, versions), strict=True))


def _records(data: Data, source: Store, versions: dict[str, str]) -> dict[str, bytes | str]:
    positions_by_shard: dict[str, dict[int, str]] = defaultdict(dict)
    for key in versions:
        shard, position = split_key(key)
        positions_by_shard[shard][position] = key
    originals: dict[str, bytes | str] = {}
    filesystem, root = source.arrow()
    for shard, positions in positions_by_shard.items():
        info = source.stat(shard)
        if info is None or info.version != versions[next(iter(positions.values()))]:
            continue
        try:
            with arrow_errors(source.uri + shard), open_shard(filesystem, f"{root}/{shard}", data) as file:
                read, last = 0, max(positions)
                for record in records_of(file, data, source.uri + shard):
                    if record.position in positions:
                        originals[positions[record.position]] = record.encoded
                    read += len(record.encoded)
                    if record.position == last or read > DEEPEST:
                        break
        except (ThawError, OSError) as error:
            originals |= {key: str(error) for key in positions.values() if key not in originals}
            continue
        deep = f"more than {DEEPEST // 2**20} MiB into its shard: not looked for"
        originals |= {key: deep for key in positions.values() if key not in originals}
    return originals
