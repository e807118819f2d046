"""The table of the layout `table`: labels of objects, or of the texts that are in it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from job.config import Data, Table
from job.errors import DataError, ObjectMissing, nearest
from job.storage import Store, open_store, split_uri

LARGEST = 2**31 - 1
"""Bytes that Arrow takes at a time."""
UNREADABLE = (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError)


def read_table(data: Data, source: Store) -> pa.Table:
    """Columns key, label, group and split (null without one) and, where `data.table.text` is set, text; all strings.

    Of texts without a column of keys, the key is a digest of the text. Raises DataError.
    """
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
        table = _parse(content, key, spec)
        table.column_names  # noqa: B018 (raises UnicodeDecodeError)
    except (*UNREADABLE, OSError) as error:  # Arrow's for what is in memory already
        reason = str(error).splitlines()[0]
        raise DataError(f"{uri}: not a CSV, Parquet or JSON lines file that can be read: {reason}.") from error
    roles = {"key": spec.key, "label": spec.label, "group": spec.group, "split": spec.split}
    columns = {role: _column(table, role, name, uri, spec) for role, name in roles.items()}
    if spec.text is not None:
        columns["text"] = texts = _column(table, "text", spec.text, uri, spec)
        if columns["key"].null_count:
            columns["key"] = pa.array(map(text_version, texts.to_pylist()), pa.string())
    return pa.table(columns)


def object_reader(data: Data, source: Store) -> Callable[[str, str], bytes]:
    """(key, version) -> the encoded example, an object of its own or a text of the table; raises ObjectMissing where
    this version of it is gone.
    """
    if data.label_table.text is None:
        return source.read
    table = read_table(data, source)
    rows = {key: row for row, key in enumerate(table["key"].to_pylist())}

    def read(key: str, version: str) -> bytes:
        text = table["text"][rows[key]].as_py() if key in rows else None
        if text is None or text_version(text) != version:
            raise ObjectMissing(f"{key} is not what was listed: the table was written since.")
        return text.encode()

    return read


def text_version(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _column(table: pa.Table, role: str, name: str | None, uri: str, spec: Table) -> pa.ChunkedArray | pa.Array:
    keyless = role == "key" and spec.text is not None and name == Table.model_fields["key"].default
    if name is None or (keyless and name not in table.column_names):
        return pa.nulls(len(table), pa.string())
    if name not in table.column_names:
        raise DataError(
            f"data.table.{role}: {uri} has no column {name!r}{nearest(name, table.column_names)}; "
            f"it has {', '.join(table.column_names)}."
        )
    try:
        return pc.fill_null(pc.cast(table[name], pa.string()), "")
    except UNREADABLE as error:
        raise DataError(f"data.table.{role}: the column {name!r} of {uri} holds no text: {error}.") from error


def _parse(content: bytes, key: str, spec: Table) -> pa.Table:
    name, size = key.lower(), min(len(content) + 1, LARGEST)
    if name.endswith((".parquet", ".pq")):
        return pq.read_table(io.BytesIO(content))
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return pyarrow.json.read_json(io.BytesIO(content), pyarrow.json.ReadOptions(block_size=size))
    names = filter(None, (spec.key, spec.label, spec.group, spec.split, spec.text))
    strings = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    if spec.text is None:
        return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=strings)
    # A text may have lines, and be longer than what Arrow takes at a time.
    read, lines = pyarrow.csv.ReadOptions(block_size=size), pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(io.BytesIO(content), read, lines, strings)
