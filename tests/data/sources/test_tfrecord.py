"""TFRecord files as others write them."""

from __future__ import annotations

import gzip
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from job.data.sources.tfrecord import RAW, SEQUENCE, framed
from support import shards
from support.packed import labels, read, rejects

EXAMPLES = shards.examples(20)
IMAGE = EXAMPLES[0][0]


@pytest.fixture(scope="module")
def content() -> bytes:
    return shards.usual_tfrecord_of(EXAMPLES)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
def test_a_compressed_file_is_read_as_far_as_it_goes(compress: Any, content: bytes) -> None:
    packed = compress(content)
    assert [(record.encoded, record.label) for record in read(packed, "tfrecord")] == EXAMPLES
    assert len(read(packed + packed, "tfrecord")) == 2 * len(EXAMPLES)
    for size in range(100, len(packed), len(packed) // 7):
        *records, last = read(packed[:size], "tfrecord")
        assert [(record.encoded, record.label) for record in records] == EXAMPLES[: len(records)]
        assert str(last.reject).startswith("truncated")
    damaged = packed[:5000] + bytes(20) + packed[5020:]
    assert read(damaged, "tfrecord")[-1].reject is not None


@pytest.mark.parametrize("length", [0x8B1F, 0x9C78, 0x4D42, 0xD8FF, 0x6450])
def test_a_length_that_looks_like_a_signature_is_a_length(length: int) -> None:
    """Of gzip, zlib, BMP, JPEG and PAR1: the first bytes of a file are the length of its first record."""
    assert struct.pack("<Q", length)[:1] in (b"\x1f", b"\x78", b"\x42", b"\xff", b"\x50")
    records = read(framed(bytes(length)) + framed(b""), "tfrecord")
    assert [record.reject for record in records] == ["not a tf.train.Example", "no image (image/encoded)"]


@pytest.mark.parametrize(
    ("features", "image", "reason"),
    [
        ({"image_raw": bytes(28 * 28), "height": 28, "width": 28}, "image_raw", RAW),
        ({"raw": bytes(6 * 4 * 3), "image/height": 6, "image/width": 4}, "raw", RAW),
        ({"pixels": [0.5] * 784}, "pixels", RAW),
        ({"pixels": [1] * 784}, "pixels", RAW),
        ({"pixels": 3}, "pixels", "image is a number"),
        ({"image_raw": bytes(784)}, "image/encoded", "no image (image/encoded; it has image_raw)"),
    ],
)
def test_pixels_that_are_not_encoded_are_named_for_what_they_are(
    features: dict[str, Any], image: str, reason: str
) -> None:
    content = shards.tfrecord_of([features | {"image/class/label": 1}])
    assert rejects(read(content, "tfrecord", image=image)) == [(0, reason)]


def test_the_size_beside_an_encoded_image_is_no_fault() -> None:
    content = shards.tfrecord_of([{"image/encoded": IMAGE, "image/class/label": 1, "height": 1, "width": len(IMAGE)}])
    assert labels(read(content, "tfrecord")) == ["1"]


def test_a_sequence_example_is_named_for_what_it_is() -> None:
    from tensorflow import train

    picture = train.Feature(bytes_list=train.BytesList(value=[IMAGE]))
    lists = train.FeatureLists(feature_list={"image/encoded": train.FeatureList(feature=[picture])})
    content = framed(train.SequenceExample(feature_lists=lists).SerializeToString())
    assert rejects(read(content, "tfrecord")) == [(0, SEQUENCE)]


def test_labels_are_numbers_or_texts_as_they_were_written() -> None:
    values = [3, b"cat", 0.33, 1.0, float("nan"), np.inf]
    rows = [{"image/encoded": IMAGE, "image/class/label": value, "image/class/text": b"a cat"} for value in values]
    records = read(shards.tfrecord_of(rows), "tfrecord")
    assert [record.label for record in records] == ["3", "cat", "0.33", "1", None, "inf"]
    assert rejects(records) == [(4, "no label (image/class/label has no value)")]
    assert set(labels(read(shards.tfrecord_of(rows), "tfrecord", label="image/class/text"))) == {"a cat"}
