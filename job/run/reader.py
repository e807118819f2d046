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
from ray.data.datasource import DefaultFileMetadataProvider, FileBasedDatasource

from job.config import Data
from job.data.packed import check_version, open_shard, records_of
from job.data.records import Record
from job.run.actors import carried
from job.storage import Store, arrow_errors

BLOCK = 8 * 2**20
"""Bytes of images in a block, unless one image is larger."""
RECORDS = pa.schema(
    [("shard", pa.string()), ("position", pa.int64()), ("label", pa.string()), ("encoded", pa.binary())]
)


class RecordDatasource(FileBasedDatasource):
    """A task reads whole shards, from first to last: how Ray cuts its output into blocks moves no position."""

    def __init__(self, data: Data, source: Store, shards: list[str], versions: Mapping[str, str] | None) -> None:
        filesystem, root = source.arrow()
        self.data, self.source, self.root = data, source, root
        self.versions = ray.put(dict(versions or {}))
        super().__init__(root, filesystem=filesystem, meta_provider=_Listed([f"{root}/{key}" for key in shards]))

    def _open_input_source(self, filesystem: pa.fs.FileSystem, path: str, **open_args: object) -> pa.NativeFile:
        with carried(), arrow_errors(self.source.uri + path.removeprefix(f"{self.root}/")):
            return open_shard(filesystem, path, self.data)

    def _read_stream(self, file: pa.NativeFile, path: str) -> Iterator[pa.Table]:
        shard = path.removeprefix(f"{self.root}/")
        with carried():
            with arrow_errors(self.source.uri + shard):
                yield from self._blocks(records_of(file, self.data, self.source.uri + shard), shard)
            version = ray.get(self.versions).get(shard)
            if version is not None:
                check_version(self.source, shard, version)

    def _blocks(self, records: Iterator[Record], shard: str) -> Iterator[pa.Table]:
        rows, size = [], 0
        for record in records:
            if record.reject or not 0 < len(record.encoded) <= self.data.max_bytes:
                continue
            rows.append((shard, record.position, record.label, record.encoded))
            size += len(record.encoded)
            if size >= BLOCK:
                yield _block(rows)
                rows, size = [], 0
        yield _block(rows)


class _Listed(DefaultFileMetadataProvider):
    """The shards are listed already: Ray would list them again, and take some names for parts of a URL."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def expand_paths(
        self, paths: list[str], filesystem: Any, partitioning: Any = None, ignore_missing_paths: bool = False
    ) -> Iterator[tuple[str, Any]]:
        """Once: they need not travel with every task. Their sizes are not known."""
        listed, self.paths = self.paths, []
        return ((path, None) for path in listed)


def _block(rows: list[tuple[str, int | None, str | None, bytes]]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(RECORDS)
    return pa.table([pa.array(*column) for column in zip(columns, RECORDS.types, strict=True)], schema=RECORDS)
