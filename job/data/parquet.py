"""Parquet: a column of images, as bytes or in Hugging Face's struct {bytes, path}, and one of labels."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from job.config import Packed
from job.data.records import BrokenShard, Fields
from job.errors import DataError, nearest

ROWS = 64
"""Rows in memory at a time."""
BUFFER = 8 * 2**20
"""Bytes of a column that are read at a time; 0 would be a row group of it at once."""


def read_parquet(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every row in its order; the rest of a broken row group as rejects. Raises DataError for columns it has not."""
    watched = _Watched(file)
    try:
        table = pq.ParquetFile(pa.PythonFile(watched, mode="r"), buffer_size=BUFFER, page_checksum_verification=True)
        schema = table.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise BrokenShard(watched.fault_of_contents(error)) from error
    _check_columns(schema, names, uri)
    for group in range(table.num_row_groups):
        left = table.metadata.row_group(group).num_rows
        try:
            for fields in _rows(table, group, names):
                yield fields
                left -= 1
        except (pa.ArrowException, OSError) as error:
            reason = watched.fault_of_contents(error)
            yield from (Fields(reject=reason) for _ in range(left))


def _rows(table: pq.ParquetFile, group: int, names: Packed) -> Iterator[Fields]:
    columns = [name for name in (names.image, names.label, names.group) if name is not None]
    for batch in table.iter_batches(ROWS, row_groups=[group], columns=list(dict.fromkeys(columns)), use_threads=False):
        images, *words = (batch.column(name) for name in columns)
        if pa.types.is_struct(images.type):
            images = pc.struct_field(images, "bytes")
        for row in zip(*(column.to_pylist() for column in (images, *map(_names, words))), strict=True):
            yield Fields(*row)


def _names(column: pa.Array) -> pa.Array:
    """Text as bytes: a file can claim that what is no UTF-8 were text."""
    if _is_bytes(column.type):
        return column
    return pc.cast(pc.cast(column, pa.string()), pa.binary())


class _Watched:
    """Remembers the storage's error: Arrow raises the same for contents that it can't read."""

    closed = False

    def __init__(self, file: pa.NativeFile) -> None:
        self.file = file
        self.error: OSError | None = None

    def fault_of_contents(self, error: Exception) -> str:
        """What is wrong with the contents. Raises OSError where it is the storage."""
        if self.error is not None:
            raise self.error
        return f"corrupt ({str(error).splitlines()[0].rstrip('.')})"

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.closed = True


def _check_columns(schema: pa.Schema, names: Packed, uri: str) -> None:
    for role in ("image", "label", "group"):
        name = getattr(names, role)
        if name is None:
            continue
        if name not in schema.names:
            raise DataError(
                f"data.packed.{role}: {uri} has no column {name!r}{nearest(name, schema.names)}; "
                f"it has {', '.join(schema.names)}."
            )
        kind = schema.field(name).type
        if not (_holds_images(kind) if role == "image" else _holds_names(kind)):
            wanted = "of binary, or of structs with `bytes`" if role == "image" else "of text or numbers"
            raise DataError(f"data.packed.{role}: {uri} has a column {name!r} of {kind}: name one {wanted}.")


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _holds_names(kind: pa.DataType) -> bool:
    try:
        return _is_bytes(kind) or pc.cast(pa.array([], kind), pa.string()) is not None
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False


def _is_bytes(kind: pa.DataType) -> bool:
    """Or of nothing, as an empty column is often written."""
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return pa.types.is_null(kind) or any(is_kind(kind) for is_kind in binary)
