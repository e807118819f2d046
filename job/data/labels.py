"""What an object's label is: its folder, or a row of a label file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from job.config import Data
from job.errors import DataError, ObjectMissing, nearest
from job.storage import ObjectInfo, Store, open_store, split_uri

JUNK = frozenset({"Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Listed:
    """A listed object (or a row of the label file) with its label, or the reason why it can't be used."""

    key: str
    size: int
    version: str
    label: str | None
    group: str | None = None
    reject: str | None = None


def labelled(data: Data, source: Store) -> Iterator[Listed]:
    """Every object below the source in the order of its key, each with a label or a reason. Streams.

    The layout `table` holds the label file in memory (about 100 bytes a row), never the listing.
    """
    if data.layout == "folders":
        return (_by_folder(info) for info in source.list())
    return _by_table(data, source)


def _by_folder(info: ObjectInfo) -> Listed:
    label, slash, _ = info.key.partition("/")
    reason = _junk(info.key) or (None if slash else "not in a class folder")
    return Listed(info.key, info.size, info.version, None if reason else label, reject=reason)


def _junk(key: str) -> str | None:
    name = key.rsplit("/", 1)[-1]
    hidden = name in JUNK or any(part.startswith(".") for part in key.split("/"))
    return "hidden file" if hidden else None


def _by_table(data: Data, source: Store) -> Iterator[Listed]:
    spec = data.label_table
    rows = _rows(_read_table(data, source))
    row = next(rows, None)
    for info in source.list():
        if info.key == spec.file:
            continue
        while row is not None and row[0] < info.key:
            yield Listed(row[0], 0, "", row[1], reject="in the label file, but not in the source")
            row = next(rows, None)
        if row is None or row[0] != info.key:
            yield Listed(info.key, info.size, info.version, None, reject=_junk(info.key) or "not in the label file")
            continue
        reason = None if row[1] else "empty label"
        yield Listed(info.key, info.size, info.version, row[1] or None, row[2], reason)
        row = next(rows, None)
    while row is not None:
        yield Listed(row[0], 0, "", row[1], reject="in the label file, but not in the source")
        row = next(rows, None)


def _rows(table: pa.Table) -> Iterator[tuple[str, str, str | None]]:
    """Rows (key, label, group) by ascending key; equal rows once; a key with two labels is an error."""
    previous: tuple[str, str, str | None] | None = None
    for batch in table.sort_by("key").to_batches(max_chunksize=65_536):
        columns: Iterable[tuple[str, str, str | None]] = zip(*(c.to_pylist() for c in batch.columns), strict=True)
        for key, label, group in columns:
            row = (key, label, group)
            if previous is not None and key == previous[0]:
                if row != previous:
                    raise DataError(
                        f"The label file gives {key!r} twice, as {previous[1]!r} and {label!r}: keep one row."
                    )
                continue
            previous = row
            yield row


def _read_table(data: Data, source: Store) -> pa.Table:
    spec = data.label_table
    store, key = source, spec.file
    if "://" in spec.file:
        root, key = split_uri(spec.file)
        store = open_store(root)
    uri = f"{store.uri}{key}"
    try:
        content = store.read(key)
    except ObjectMissing as error:
        raise DataError(f"data.table.file: there is no label file {uri}.") from error
    try:
        table = _parse(content, key)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
        raise DataError(f"{uri}: not a CSV or Parquet file that can be read: {str(error).splitlines()[0]}.") from error
    columns = []
    for role, name in (("key", spec.key), ("label", spec.label), ("group", spec.group)):
        if name is None:
            columns.append(pa.nulls(len(table), pa.string()))
        elif name not in table.column_names:
            raise DataError(
                f"data.table.{role}: {uri} has no column {name!r}{nearest(name, table.column_names)}; "
                f"it has {', '.join(table.column_names)}."
            )
        else:
            columns.append(pc.fill_null(pc.cast(table[name], pa.string()), ""))
    return pa.table(columns, names=["key", "label", "group"])


def _parse(content: bytes, key: str) -> pa.Table:
    if key.lower().endswith((".parquet", ".pq")):
        return pq.read_table(io.BytesIO(content))
    header = pyarrow.csv.open_csv(io.BytesIO(content)).schema.names
    text = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=text)
