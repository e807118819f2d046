"""Ray Data's datasource for packed layouts.

Ray's own read_webdataset, read_parquet and read_tfrecords have no position of a record, and end the run at the first
shard that is broken (or end a truncated tar without a word).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.fs
import ray
import ray.data
from ray.data.datasource import DefaultFileMetadataProvider, FileBasedDatasource

from job.config import Data
from job.data.sources.packed import check_version, open_shard, usable_records
from job.data.sources.records import Record
from job.executors.ray.actors import carried
from job.storage import Store, arrow_errors

TASKS = 2048
"""The most Ray tasks that the shards of a source are divided among."""
BLOCK = 8 * 2**20
"""Bytes of images at which a block is complete."""
RECORDS = pa.schema(
    [("shard", pa.string()), ("position", pa.int64()), ("label", pa.string()), ("encoded", pa.binary())]
)


def read_records(data: Data, source: Store, versions: Mapping[str, str]) -> ray.data.Dataset:
    """The usable records of these shards, in any order: {shard: str, position: int, label: str, encoded: bytes}.

    Reading (by `rows_of`) raises StorageError for a shard that can't be read, and at the end of one whose version is
    not that in `versions`.
    """
    datasource = RecordDatasource(data, source, versions)
    return ray.data.read_datasource(datasource, override_num_blocks=max(1, min(len(versions), TASKS)))


class RecordDatasource(FileBasedDatasource):
    """A datasource whose tasks read whole shards, so that positions do not depend on how Ray divides the blocks."""

    def __init__(self, data: Data, source: Store, versions: Mapping[str, str]) -> None:
        filesystem, root = source.arrow()
        self.data, self.source, self.root = data, source, root
        self.versions = ray.put(dict(versions))
        paths = [f"{root}/{key}" for key in sorted(versions)]
        super().__init__(root, filesystem=filesystem, meta_provider=_Listed(paths))

    def _open_input_source(self, filesystem: pa.fs.FileSystem, path: str, **open_args: object) -> pa.NativeFile:
        with carried(), arrow_errors(self.source.uri + path.removeprefix(f"{self.root}/")):
            return open_shard(filesystem, path, self.data)

    def _read_stream(self, file: pa.NativeFile, path: str) -> Iterator[pa.Table]:
        shard = path.removeprefix(f"{self.root}/")
        with carried():
            with arrow_errors(self.source.uri + shard):
                yield from _blocks(usable_records(file, self.data, self.source.uri + shard), shard)
            check_version(self.source, shard, ray.get(self.versions)[shard])


class _Listed(DefaultFileMetadataProvider):
    """Gives Ray the listed shards. Ray would list them again, and misread some names as parts of a URL."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def expand_paths(
        self, paths: list[str], filesystem: Any, partitioning: Any = None, ignore_missing_paths: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """The listed paths, without sizes. They are given once only, so that they are not sent with every task."""
        listed, self.paths = self.paths, []
        return ((path, None) for path in listed)


def _blocks(records: Iterator[Record], shard: str) -> Iterator[pa.Table]:
    rows, size = [], 0
    for record in records:
        rows.append((shard, record.position, record.label, record.encoded))
        size += len(record.encoded)
        if size >= BLOCK:
            yield _block(rows)
            rows, size = [], 0
    yield _block(rows)


def _block(rows: list[tuple[str, int | None, str | None, bytes]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(RECORDS)
    return pa.table([pa.array(*column) for column in zip(columns, RECORDS.types, strict=True)], schema=RECORDS)
