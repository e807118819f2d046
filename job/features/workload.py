"""The workload of the extract stage: the examples that lack a feature, in chunks that become parts.

runs/<run>/work.parquet   one row group a chunk (metadata: the packed file of each); deleted when all is done
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.data.sources.packed import shards_of
from job.data.splits import SPLITS
from job.features.binary import from_binary, to_binary
from job.features.dataset import Examples
from job.features.store import ADDRESS, Featurizer, StoredFeatures
from job.storage import Store, table_errors
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch

CHUNK = 256
"""Examples of a chunk, at most."""
CHUNK_BYTES = 64 * 2**20
"""Bytes of a chunk's features together, at most; a chunk has at least one example."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("hash", pa.uint64()),
        ("address", pa.binary(16)),
        ("needs", pa.list_(pa.bool_())),
    ]
)


@dataclass(frozen=True)
class Chunk:
    """Examples that are decoded and featurized together."""

    keys: list[str]
    versions: list[str]
    hashes: np.ndarray
    """Hashes of the keys, uint64 [n]."""
    addresses: np.ndarray
    """Addresses in the feature store, ADDRESS [n]."""
    needs: np.ndarray
    """Which features each example lacks, bool [n, featurizers]."""


def missing(examples: Examples, stored_sets: Sequence[tuple[Featurizer, StoredFeatures]]) -> np.ndarray:
    """Which features each example lacks, bool [n, featurizers]. Only training examples need views above 0."""
    rejected = [k for _, known in stored_sets for k in known.rejects]
    usable = ~np.isin(examples.addresses, np.array(rejected, ADDRESS))
    train = examples.splits == SPLITS.index("train")
    columns = [
        (known.find(examples.addresses)[0] < 0) & usable & (train if featurizer.view else True)
        for featurizer, known in stored_sets
    ]
    return np.stack(columns, axis=1)


def write_work(
    store: Store, run: str, examples: Examples, *, needs: np.ndarray, featurizers: Sequence[Featurizer], packed: bool
) -> list[tuple[str, str]]:
    """Writes the examples that lack a feature, in chunks. Returns each chunk's packed file ("" for single objects) and
    version.
    """
    rows = np.flatnonzero(needs.any(axis=1))
    files, file = [""], np.zeros(len(rows), np.int32)
    if packed:
        files, file = shards_of(examples.table["key"].take(rows))
    size = int(np.clip(CHUNK_BYTES // sum(f.bytes_per_example for f in featurizers), 1, CHUNK))
    chunks: list[tuple[str, str]] = []
    with scratch() as folder:
        path = os.path.join(folder, "work")
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            for begin, end in _bounds(file, size):
                part = rows[begin:end]
                columns = [
                    examples.table["key"].take(part).combine_chunks(),
                    examples.table["version"].take(part).combine_chunks(),
                    pa.array(examples.hashes[part]),
                    to_binary(examples.addresses[part][:, None]),
                    pa.array(needs[part].tolist(), pa.list_(pa.bool_())),
                ]
                writer.write_table(pa.table(columns, schema=SCHEMA), row_group_size=CHUNK)
                chunks.append((files[file[begin]], columns[1][0].as_py()))
            writer.add_key_value_metadata({"files": json.dumps([name for name, _ in chunks])})
        store.upload(RunKeys(run).work, path)
    return chunks


def read_chunk(store: Store, run: str, number: int) -> Chunk:
    """The chunk of this number. Raises StorageError."""
    with _opened(store, run) as work:
        return _chunk(work.read_row_group(number))


def read_chunks_of(store: Store, run: str, packed_file: str) -> Chunk:
    """All chunks of a packed file as one chunk. Raises StorageError."""
    with _opened(store, run) as work:
        files = json.loads(work.metadata.metadata[b"files"])
        return _chunk(work.read_row_groups([number for number, name in enumerate(files) if name == packed_file]))


@contextmanager
def _opened(store: Store, run: str) -> Iterator[pq.ParquetFile]:
    filesystem, root = store.arrow()
    with (
        table_errors(f"{store.uri}{RunKeys(run).work}"),
        filesystem.open_input_file(f"{root}/{RunKeys(run).work}") as file,
    ):
        yield pq.ParquetFile(file)


def _chunk(table: pa.Table) -> Chunk:
    return Chunk(
        table["key"].to_pylist(),
        table["version"].to_pylist(),
        table["hash"].to_numpy(),
        from_binary(table["address"], ADDRESS)[:, 0],
        np.array(table["needs"].to_pylist(), np.bool_),
    )


def _bounds(file: np.ndarray, size: int) -> list[tuple[int, int]]:
    """The begin and the end of each chunk of at most `size` neighbours of one file, whose number is that of `file`."""
    ends = [*np.flatnonzero(np.diff(file)) + 1, len(file)]
    begins = [0, *ends[:-1]]
    return [
        (int(at), int(min(at + size, end)))
        for begin, end in zip(begins, ends, strict=True)
        for at in range(begin, end, size)
    ]
