"""A few examples as they lie in the source, by their keys: for whoever wants to look at them."""

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
"""Bytes of examples in a shard before one that is not looked for any further: a shard is read from its beginning."""
CHANGED = "deleted or overwritten since it was listed"


def read_originals(
    data: Data, source: Store, store: Store, snapshot: Snapshot, keys: list[str]
) -> dict[str, bytes | str]:
    """By key, the encoded example, or why it can't be had: an error of the source is a reason like any other."""
    table = read_snapshot(store, snapshot, ["key", "version"])
    at = pc.index_in(pa.array(keys, pa.string()), value_set=table["key"].combine_chunks()).to_pylist()
    versions = {key: table["version"][row].as_py() for key, row in zip(keys, at, strict=True) if row is not None}
    try:
        found = _records(data, source, versions) if data.is_packed else _objects(data, source, versions)
    except (ThawError, OSError) as error:
        return dict.fromkeys(keys, str(error))
    return {key: found.get(key, CHANGED) for key in keys}


def _objects(data: Data, source: Store, versions: dict[str, str]) -> dict[str, bytes | str]:
    read = object_reader(data, source)

    def one(key: str) -> bytes | str:
        try:
            return read(key, versions[key])
        except ObjectMissing:
            return CHANGED
        except (ThawError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(versions, pool.map(one, versions), strict=True))


def _records(data: Data, source: Store, versions: dict[str, str]) -> dict[str, bytes | str]:
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    for key in versions:
        shard, position = split_key(key)
        wanted[shard][position] = key
    found: dict[str, bytes | str] = {}
    filesystem, root = source.arrow()
    for shard, positions in wanted.items():
        info = source.stat(shard)
        if info is None or info.version != versions[next(iter(positions.values()))]:
            continue
        try:
            with arrow_errors(source.uri + shard), open_shard(filesystem, f"{root}/{shard}", data) as file:
                read, last = 0, max(positions)
                for record in records_of(file, data, source.uri + shard):
                    if record.position in positions:
                        found[positions[record.position]] = record.encoded
                    read += len(record.encoded)
                    if record.position == last or read > DEEPEST:
                        break
        except (ThawError, OSError) as error:
            found |= {key: str(error) for key in positions.values() if key not in found}
            continue
        deep = f"more than {DEEPEST // 2**20} MiB into its shard: not looked for"
        found |= {key: deep for key in positions.values() if key not in found}
    return found
