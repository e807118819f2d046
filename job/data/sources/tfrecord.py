"""Reads TFRecord, a file of tf.train.Example messages, without TensorFlow."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from job.config import Packed
from job.data.sources.expanding import Source, expanded
from job.data.sources.records import LONGEST, TOO_LONG, BrokenShard, Fields, WrongLayout
from job.data.sources.signature import tfrecord_checksum, wrong_layout

EXAMPLE = """
name: "example.proto" syntax: "proto3"
message_type { name: "Example"
  field { name: "features" number: 1 type: TYPE_MESSAGE type_name: ".Features" }
  field { name: "lists" number: 2 type: TYPE_BYTES } }
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
"""tensorflow/core/example/{example,feature}.proto as they are on the wire; a map is a list of its entries.
`lists` is the additional field of a SequenceExample.
"""


SIDES = (
    re.compile(r"(^|[/_.])(h|height|rows)$", re.IGNORECASE),
    re.compile(r"(^|[/_.])(w|width|cols|columns)$", re.IGNORECASE),
)
"""The names of features with the height and the width of an image."""
PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
"""The first bytes of encoded images."""
SEQUENCE = "it is a tf.train.SequenceExample, which is not read: write each picture as a tf.train.Example"
RAW = "image is raw pixels, not an encoded image (tf.io.encode_png makes one)"


def read_tfrecord(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every record of the file. A record is a length, its checksum, as many bytes, and their checksum.

    https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    from google.protobuf.message import DecodeError

    example, contents = _example_type(), expanded(file)
    if wrong := wrong_layout(contents.first, "tfrecord"):
        raise WrongLayout(wrong)
    while header := _read(contents, 12):
        if len(header) < 12:
            raise BrokenShard("truncated")
        length, checksum = struct.unpack("<QI", header)
        if tfrecord_checksum(header[:8]) != checksum:
            raise BrokenShard("corrupt (the checksum of a length is wrong)")
        if length > LONGEST:
            _skip(contents, length + 4)
            yield Fields(reject=TOO_LONG)
            continue
        content, checksum = _read(contents, length), _read(contents, 4)
        if len(checksum) < 4:
            raise BrokenShard("truncated")
        if tfrecord_checksum(content) != int.from_bytes(checksum, "little"):
            yield Fields(reject="the record's checksum is wrong")
            continue
        try:
            yield _fields(example.FromString(content), names)
        except DecodeError:
            yield Fields(reject="not a tf.train.Example")


def framed(content: bytes) -> bytes:
    """A record as it is in a file."""
    length = struct.pack("<Q", len(content))
    checksums = [struct.pack("<I", tfrecord_checksum(part)) for part in (length, content)]
    return length + checksums[0] + content + checksums[1]


def _fields(example: Any, names: Packed) -> Fields:
    features = {entry.key: entry.value for entry in example.features.entries}
    fields: dict[str, Any] = {}
    reject = SEQUENCE if example.lists else None
    for role in ("image", "label", "group"):
        values = _values(features.get(getattr(names, role)))
        fields[role] = values[0] if values else None
        if len(values) > 1:
            reject = reject or f"{role} has {len(values)} values"
    if not isinstance(fields["image"], bytes | None):
        many = len(_values(features[str(names.image)])) > 1
        fields["image"], reject = None, RAW if many else "image is a number"
    elif fields["image"] is not None and _is_raw(fields["image"], features):
        reject = RAW
    return Fields(**fields, known=list(features), reject=reject)


def _values(feature: Any) -> list[Any]:
    """The values of a feature. Floats stay float32: as Python's they would have more digits than were written."""
    if not feature:
        return []
    return [*feature.bytes.value, *feature.ints.value, *map(np.float32, feature.floats.value)]


def _is_raw(image: bytes, features: dict[str, Any]) -> bool:
    """Whether the image is raw pixels: as many bytes as its height and width in other features give."""
    if image.startswith(PICTURES):
        return False
    sides = [[_values(features[name]) for name in features if side.search(name)] for side in SIDES]
    heights, widths = ([value[0] for value in values if len(value) == 1] for values in sides)
    if not heights or not widths or not isinstance(heights[0], int) or not isinstance(widths[0], int):
        return False
    return len(image) in {heights[0] * widths[0] * size for size in (1, 3, 4, 12, 16)}


def _example_type() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(EXAMPLE, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


def _read(file: Source, size: int) -> bytes:
    """The next `size` bytes; fewer only at the end of the file."""
    parts, left = [file.read(size)], size
    while parts[-1] and (left := left - len(parts[-1])):
        parts.append(file.read(left))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _skip(file: Source, size: int) -> None:
    while size:
        part = file.read(min(size, 2**20))
        if not part:
            raise BrokenShard("truncated")
        size -= len(part)
