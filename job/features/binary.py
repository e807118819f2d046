"""Addresses and values of examples as Arrow streams, without a copy where they are not packed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def to_stream(addresses: np.ndarray, values: np.ndarray, *, packed: bool) -> pa.Buffer:
    """An Arrow stream of one batch: addresses [n] and values [n, m]; the values `packed` by Zstandard."""
    columns = {"address": to_binary(addresses[:, None]), "value": to_binary(np.ascontiguousarray(values))}
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd" if packed else None)
    ) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def from_stream(content: bytes, address: np.dtype, value: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """The addresses [n, 1] and values [n, m] of such a stream."""
    table = pa.ipc.open_stream(content).read_all()
    return from_binary(table["address"], address), from_binary(table["value"], value)


def to_binary(array: np.ndarray) -> pa.Array:
    """The rows of an array [n, m] as n values of fixed-size binary, without a copy."""
    width = array.itemsize * array.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(array), [None, pa.py_buffer(array)])


def from_binary(column: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    """The values of a fixed-size binary column as [n, m] of `dtype`, without a copy where they are in one chunk."""
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    width = chunk.type.byte_width
    start = chunk.offset * width
    content = np.frombuffer(chunk.buffers()[1], dtype="u1")[start : start + len(chunk) * width]
    return content.view(dtype).reshape(len(chunk), -1)
