"""TFRecord: a file of tf.train.Example messages, read without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from job.config import Packed
from job.data.records import LONGEST, TOO_LONG, BrokenShard, Fields

EXAMPLE = """
name: "example.proto" syntax: "proto3"
message_type { name: "Example" field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".Features" } }
message_type { name: "Features"
  field { name: "entries" number: 1 type: TYPE_MESSAGE type_name: ".Entry" label: LABEL_REPEATED } }
message_type { name: "Entry"
  field { name: "key" number: 1 type: TYPE_STRING }
  field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".Feature" } }
message_type { name: "Feature"
  field { name: "bytes" number: 1 type: TYPE_MESSAGE type_name: ".Bytes" }
  field { name: "floats" number: 2 type: TYPE_MESSAGE type_name: ".Floats" }
  field { name: "ints" number: 3 type: TYPE_MESSAGE type_name: ".Ints" } }
message_type { name: "Bytes" field { name: "value" number: 1 type: TYPE_BYTES label: LABEL_REPEATED } }
message_type { name: "Floats" field { name: "value" number: 1 type: TYPE_FLOAT label: LABEL_REPEATED } }
message_type { name: "Ints" field { name: "value" number: 1 type: TYPE_INT64 label: LABEL_REPEATED } }
"""
"""tensorflow/core/example/{example,feature}.proto as they are on the wire; a map is a list of its entries."""


def read_tfrecord(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every record of the file: a length, its checksum, as many bytes, their checksum.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    from google.protobuf.message import DecodeError

    example = _example_type()
    while header := _read(file, 12):
        if len(header) < 12:
            raise BrokenShard("truncated")
        length, checksum = struct.unpack("<QI", header)
        if _checksum(header[:8]) != checksum:
            raise BrokenShard("corrupt (the checksum of a length is wrong)")
        if length > LONGEST:
            _skip(file, length + 4)
            yield Fields(reject=TOO_LONG)
            continue
        content, checksum = _read(file, length), _read(file, 4)
        if len(checksum) < 4:
            raise BrokenShard("truncated")
        if _checksum(content) != int.from_bytes(checksum, "little"):
            yield Fields(reject="the record's checksum is wrong")
            continue
        try:
            yield _fields(example.FromString(content), names)
        except DecodeError:
            yield Fields(reject="not a tf.train.Example")


def framed(content: bytes) -> bytes:
    """A record as it is in a file."""
    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", _checksum(length)) + content + struct.pack("<I", _checksum(content))


def _fields(example: Any, names: Packed) -> Fields:
    features = {entry.key: entry.value for entry in example.features.entries}
    found: dict[str, Any] = {}
    reject = None
    for role in ("image", "label", "group"):
        feature = features.get(getattr(names, role))
        values = [*feature.bytes.value, *feature.ints.value, *feature.floats.value] if feature else []
        found[role] = values[0] if values else None
        if len(values) > 1:
            reject = f"{role} has {len(values)} values"
    if not isinstance(found["image"], bytes | None):
        found["image"], reject = None, "image is a number"
    return Fields(**found, known=list(features), reject=reject)


def _example_type() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


def _checksum(content: bytes) -> int:
    """The CRC-32C, masked as TFRecord does."""
    import google_crc32c

    crc = google_crc32c.value(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _read(file: pa.NativeFile, size: int) -> bytes:
    """As many bytes; fewer only at the file's end."""
    content = file.read(size)
    while len(content) < size and (more := file.read(size - len(content))):
        content += more
    return content


def _skip(file: pa.NativeFile, size: int) -> None:
    while size:
        part = file.read(min(size, 2**20))
        if not part:
            raise BrokenShard("truncated")
        size -= len(part)
