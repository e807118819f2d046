"""Reads Parquet: a column of images, as bytes or in Hugging Face's struct {bytes, path}, and one of labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from job.config import Packed
from job.data.sources.expanding import Watched
from job.data.sources.fields import NoJson, field_of, parse_json
from job.data.sources.label_values import NoName, values_of
from job.data.sources.records import BrokenShard, Fields, WrongLayout
from job.data.sources.signature import HEAD, wrong_layout
from job.errors import DataError, nearest

ROWS, ROWS_BYTES = 64, 128 * 2**20
"""Rows in memory at a time, and their bytes according to the metadata of the file."""
BUFFER = 8 * 2**20
"""Bytes of a column that are read at a time; 0 would read a whole row group."""
ROLES = ("image", "label", "group")
ELSEWHERE = "image is not in the file, only its path (data.layout: table reads pictures by their paths)"
FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
"""What Arrow raises for contents that it can't read; OSError also where the storage fails."""


def read_parquet(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every row in its order; the rest of a broken row group as rejects. Raises DataError for missing columns."""
    watched = Watched(file)
    try:
        table = pq.ParquetFile(pa.PythonFile(watched, mode="r"), buffer_size=BUFFER, page_checksum_verification=True)
        schema = table.schema_arrow
        _check_columns(schema, names, uri)
        class_names = {role: _ClassNames(schema, role, names, uri=uri) for role in ("label", "group")}
    except FAULTS as error:
        reason = watched.fault_of_contents(error)
        watched.seek(0)
        if wrong := wrong_layout(watched.read(HEAD), "parquet"):
            raise WrongLayout(wrong) from error
        raise BrokenShard(reason) from error
    for group in range(table.num_row_groups):
        left = 0
        try:
            left = table.metadata.row_group(group).num_rows
            for fields in _rows(table, group, names, class_names=class_names):
                yield fields
                left -= 1
            if left > 0:
                raise pa.ArrowInvalid("a row group has fewer rows than it says")
        except FAULTS as error:
            reason = watched.fault_of_contents(error)
            if left > watched.seek(0, 2):  # there is less than a byte for each: the number is broken, too
                raise BrokenShard(reason) from error
            yield from (Fields(reject=reason) for _ in range(left))


def _rows(
    table: pq.ParquetFile, row_group: int, names: Packed, *, class_names: dict[str, _ClassNames]
) -> Iterator[Fields]:
    paths = {role: _path(table.schema_arrow, name) for role in ROLES if (name := getattr(names, role)) is not None}
    columns = list(dict.fromkeys(".".join(path) for path in paths.values()))
    group = table.metadata.row_group(row_group)
    rows = min(ROWS, max(1, ROWS_BYTES * group.num_rows // max(1, group.total_byte_size)))
    for batch in table.iter_batches(rows, row_groups=[row_group], columns=columns, use_threads=False):
        role_columns = {role: _column(batch, path) for role, path in paths.items()}
        images, reasons = _images(role_columns.pop("image"))
        words = {role: class_names[role](values_of(column)) for role, column in role_columns.items()}
        labels, groups = (words.get(role, [None] * len(batch)) for role in ("label", "group"))
        for image, label, group, reason in zip(images, labels, groups, reasons, strict=True):
            yield Fields(image, label, group, reject=reason)


def _images(column: pa.Array) -> tuple[list[bytes | None], list[str | None]]:
    """The encoded images, and for each a special reason why it is missing, or None."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not pa.types.is_struct(column.type):
        return column.to_pylist(), [None] * len(column)
    images = _field(column, "bytes").to_pylist()
    if column.type.get_field_index("path") < 0 or None not in images:
        return images, [None] * len(column)
    named = _field(column, "path").is_valid().to_pylist()
    reasons = (ELSEWHERE if image is None and has_path else None for image, has_path in zip(images, named, strict=True))
    return images, list(reasons)


class _ClassNames:
    """The names that Hugging Face's ClassLabel gives the numbers of a column, unless `data.packed.names` is set."""

    def __init__(self, schema: pa.Schema, role: str, names: Packed, *, uri: str) -> None:
        """Raises DataError where two numbers have one name."""
        self.names: list[str] | None = None
        if names.names is not None:
            return
        try:
            feature = field_of(
                parse_json((schema.metadata or {})[b"huggingface"]), f"info.features.{getattr(names, role)}"
            )
            if feature["_type"] == "ClassLabel":
                self.names = [str(class_name) for class_name in feature["names"]]
        except (KeyError, TypeError, NoJson):
            pass
        twice = next((name for name in self.names or () if self.names and self.names.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"data.packed.{role}: the schema of {uri} calls two numbers {twice!r}, and they would be one class: "
                "give them names of their own with data.packed.names."
            )

    def __call__(self, values: list[Any]) -> list[Any]:
        """The values with their names; -1 is what ClassLabel calls an unknown label."""
        return values if self.names is None else [self._named(value, self.names) for value in values]

    @staticmethod
    def _named(value: Any, names: list[str]) -> Any:
        if isinstance(value, float | np.floating) and value.is_integer():  # beside nulls, numbers are often written so
            value = int(value)
        if not isinstance(value, int):
            return value
        if value == -1:
            return None
        return names[value] if 0 <= value < len(names) else NoName("is a number without a name in the file's schema")


def _column(batch: pa.RecordBatch, path: list[str]) -> pa.Array:
    column = batch.column(path[0])
    for name in path[1:]:
        column = _field(column, name)
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _field(column: pa.StructArray, name: str) -> pa.Array:
    """A field of a struct; null where the struct is."""
    return pc.struct_field(column, [column.type.get_field_index(name)])


def _path(kind: pa.Schema | pa.StructType, name: str) -> list[str]:
    """The nested columns that a name leads through: `label.name` is the field `name` of `label`, unless a column has
    that name itself. Empty where there is no such column.
    """
    names = [field.name for field in kind]
    if name in names:
        return [name]
    for at in (at for at, character in enumerate(name) if character == "." and name[:at] in names):
        inner = kind.field(names.index(name[:at])).type
        if pa.types.is_struct(inner) and (below := _path(inner, name[at + 1 :])):
            return [name[:at], *below]
    return []


def _check_columns(schema: pa.Schema, names: Packed, uri: str) -> None:
    for role in ROLES:
        name = getattr(names, role)
        if name is None:
            continue
        path, kind = _path(schema, name), schema
        if not path:
            known = [*schema.names, *(f"{field.name}.{inner}" for field in schema for inner in _fields_of(field.type))]
            raise DataError(
                f"data.packed.{role}: {uri} has no column {name!r}{nearest(name, known)}; "
                f"it has {', '.join(schema.names)}."
            )
        if schema.names.count(path[0]) > 1:
            raise DataError(f"data.packed.{role}: {uri} has {schema.names.count(path[0])} columns {path[0]!r}.")
        for part in path:
            kind = (kind if isinstance(kind, pa.Schema) else pa.schema(list(kind))).field(part).type
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if not (_holds_images(kind) if role == "image" else _holds_names(kind)):
            raise DataError(f"data.packed.{role}: {uri} has a column {name!r} of {kind}: {_advice(role, name, kind)}.")


def _advice(role: str, name: str, kind: pa.DataType) -> str:
    fields = _fields_of(kind)
    if role != "image":
        inner = f", or a field of it ({', '.join(f'{name}.{field}' for field in fields)})" if fields else ""
        return f"name one of text or numbers{inner}"
    advice = "name one of binary, or of structs with `bytes`"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or "path" in fields:
        return f"{advice}; where it has the paths of pictures that lie beside it, data.layout: table reads those"
    return advice


def _fields_of(kind: pa.DataType) -> list[str]:
    return [field.name for field in kind] if pa.types.is_struct(kind) else []


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _holds_names(kind: pa.DataType) -> bool:
    try:
        return _is_bytes(kind) or pc.cast(pa.array([], kind), pa.string()) is not None
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False


def _is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is binary, or null, as an empty column is often written."""
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in binary)
