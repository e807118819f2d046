"""The rows of the files of an inventory: Parquet or CSV, of S3 or of Cloud Storage."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from job.data.caution import shown
from job.errors import DataError, ObjectMissing
from job.storage import Store
from job.storage.objects import Objects, below

ROWS = 65_536
"""Rows of a Parquet file that are in memory at a time."""
VERSION = {"s3": "etag", "gs": "generation"}
"""The column that tells versions of an object apart; what listings have as such."""
WRITTEN = {"s3": "lastmodifieddate", "gs": "updated"}
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Files:
    store: Store
    sizes: dict[str, int | None]
    """The bytes of each file, by its key; None where the manifest does not say."""
    columns: list[str] | None
    """The columns of CSV files without a header; None where they have one."""
    delimiter: str = ","
    rows: int | None = None
    """The rows of all files; None where the manifest does not say."""

    @property
    def scheme(self) -> str:
        return self.store.uri.partition(":")[0]


def read_files(files: Files, prefix: str, folder: str) -> Iterator[Objects]:
    """The objects below the prefix that are there now, in the order of the files, which are copied to the folder one by
    one. Raises DataError.
    """
    rows = 0
    for key, size in files.sizes.items():
        path, uri = f"{folder}/{Path(key).name}", f"{files.store.uri}{key}"
        try:
            files.store.download(key, path)
        except ObjectMissing as error:
            raise DataError(f"data.inventory: its manifest names {uri}, which is not there.") from error
        if size is not None and size != (there := Path(path).stat().st_size):
            raise DataError(f"data.inventory: {uri} has {there:,} bytes, and its manifest says {size:,}.")
        is_parquet = key.lower().endswith(".parquet")
        try:
            for batch in _parquet(path) if is_parquet else _csv(path, files):
                rows += len(batch)
                page = _objects(_Columns(batch, uri), files.scheme, encoded=files.scheme == "s3" and not is_parquet)
                if (page := _within(page, prefix)).keys:
                    yield page
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, OSError) as error:
            raise DataError(f"data.inventory: {uri} can't be read ({error}): is it whole?") from error
        finally:
            Path(path).unlink()
    if files.rows not in (None, rows):
        raise DataError(f"data.inventory: its files have {rows:,} rows, and its manifest says {files.rows:,}.")


def plain_name(name: str) -> str:
    """The name of a field in lower case, without `_`: there are two spellings of most."""
    return name.replace("_", "").lower()


def _parquet(path: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(ROWS)


def _csv(path: str, files: Files) -> Iterator[pa.RecordBatch]:
    """All columns are text."""
    names, packed = files.columns, "gzip" if path.endswith(".gz") else None
    if names is None:
        with pa.input_stream(path, compression=packed) as stream:
            head = stream.read(ROWS).decode("utf-8-sig", "ignore").splitlines()
        names = next(csv.reader(head, delimiter=files.delimiter), [])
    with pa.input_stream(path, compression=packed) as stream:
        reader = pacsv.open_csv(
            stream,
            pacsv.ReadOptions(column_names=names, skip_rows=0 if files.columns else 1),
            pacsv.ParseOptions(delimiter=files.delimiter, newlines_in_values=True),
            pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
        yield from reader


class _Columns:
    """The columns of a part of a file, by their plain names."""

    def __init__(self, batch: pa.RecordBatch, uri: str) -> None:
        self._batch, self._uri = batch, uri
        self._named = {plain_name(name): place for place, name in enumerate(batch.schema.names)}

    def get(self, name: str, kind: pa.DataType) -> pa.Array | None:
        place = self._named.get(name)
        return None if place is None else self._batch.column(place).cast(kind)

    def needed(self, name: str, kind: pa.DataType) -> pa.Array:
        """Raises DataError where the inventory has no such column."""
        if (column := self.get(name, kind)) is None:
            there = shown(self._batch.schema.names, 20)
            raise DataError(
                f"data.inventory: {self._uri} has no {name} (it has {there}): add it to the fields of the inventory."
            )
        if column.null_count:
            raise DataError(f"data.inventory: {self._uri} has {column.null_count:,} objects without a {name}.")
        return column

    def where(self, kept: pa.Array) -> _Columns:
        return _Columns(self._batch.filter(kept), self._uri)


def _objects(columns: _Columns, scheme: str, *, encoded: bool) -> Objects:
    """All objects that are there now, with their whole keys. `encoded`: as in a URL."""
    for name, gone in (("islatest", "false"), ("isdeletemarker", "true"), ("timedeleted", None)):
        if (flag := columns.get(name, pa.string())) is not None:
            columns = columns.where(pc.invert(pc.fill_null(pc.equal(flag, gone), False)) if gone else pc.is_null(flag))
    keys = columns.needed("key" if scheme == "s3" else "name", pa.string()).to_pylist()
    if encoded:
        keys = [unquote_plus(key) if "%" in key or "+" in key else key for key in keys]
    sizes = columns.needed("size", pa.int64()).to_pylist()
    versions = pc.utf8_trim(columns.needed(VERSION[scheme], pa.string()), '"').to_pylist()
    times = columns.get(WRITTEN[scheme], TIME)
    modified = (
        [None] * len(keys) if times is None else pc.divide(times.cast(pa.int64()).cast(pa.float64()), 1e6).to_pylist()
    )
    return Objects(keys, sizes, versions, modified)


def _within(page: Objects, prefix: str) -> Objects:
    """The objects below the prefix."""
    kept = [key.startswith(prefix) for key in page.keys]
    return below(Objects._make(list(compress(column, kept)) for column in page), prefix)
