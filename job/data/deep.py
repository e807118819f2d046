"""Pictures with more than 8 bits per value: reads their values, and converts them to 8 bits."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image

from job.data.decoding import HEAD, Range

DEEP = frozenset({"I;16", "I;16B", "I;16L", "I", "F"})
"""Pillow's modes of one channel with more than 8 bits."""
SCALED = frozenset({"PPM", "JPEG2000"})
"""Formats whose values Pillow scales to 16 bits."""
COMMENT = re.compile(rb"#[^\r\n]*")
BITS, PHOTOMETRIC = 258, 262
"""Tags of TIFF."""
SIZES = b"\xff\x4f\xff\x51"
"""The beginning of a JPEG 2000 header."""


def bits_of(image: Image.Image, encoded: bytes) -> int:
    """The bits of a value of this picture: 8, or more."""
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS, (1,)))  # type: ignore[attr-defined]
    if image.format == "PNG":
        return encoded[24]
    if image.mode == "F" or image.mode not in DEEP:
        return 32 if image.mode == "F" else 8
    return _most(image, encoded).bit_length()


def values_of(image: Image.Image, encoded: bytes) -> np.ndarray:
    """The values of a picture of one of the modes DEEP as the file stores them, [height, width].

    Pillow scales those of PGM and JPEG 2000 to 16 bits; this undoes it.
    """
    values = np.asarray(image)
    if image.format not in SCALED or image.mode == "F":
        return values
    return np.round(values * (_most(image, encoded) / 65535)).astype(np.int32)


def to_8_bits(image: Image.Image, encoded: bytes, value_range: Range | None) -> Image.Image:
    """Converts a picture of one of the modes DEEP to 8 bits: scaled from `value_range`, or without one the upper 8."""
    if value_range is None:
        bits = 16 if image.format in SCALED else bits_of(image, encoded)
        eight = (np.asarray(image) >> (bits - 8)).clip(0, 255)
    else:
        values = values_of(image, encoded)
        low, high = np.asarray(value_range, np.float32)
        scaled = (np.nan_to_num(values.astype(np.float32)) - low) * (np.float32(255) / (high - low))
        eight = np.round(scaled.clip(0, 255))
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == 0:  # type: ignore[attr-defined]
        eight = 255 - eight  # 0 is white
    if isinstance(key := image.info.get("transparency"), int):
        eight = np.stack([eight, np.where(np.asarray(image) == key, 0, 255)], -1)
    return Image.fromarray(eight.astype(np.uint8))


def scale_key(image: Image.Image, bits: int) -> None:
    """Scales the transparent colour of a PNG to 8 bits. Pillow does so with its pixels, but not with this colour."""
    key: Any = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(key, tuple):
        image.info["transparency"] = tuple(channel >> (bits - 8) for channel in key)
    elif image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**bits - 1)


def scale_colours(image: Image.Image, value_range: Range) -> Image.Image:
    """Scales the upper 8 bits of 16-bit colours, all that Pillow has, from `value_range` to RGBA.

    The values are close to those that TensorFlow computes from all 16 bits.
    """
    low, high = value_range
    table = [round(min(max((upper * 257 - low) * 255 / (high - low), 0), 255)) for upper in range(256)]
    *colours, alpha = image.convert("RGBA").split()
    return Image.merge("RGBA", [*(colour.point(table) for colour in colours), alpha])


def _most(image: Image.Image, encoded: bytes) -> int:
    """The highest value that a PGM or a JPEG 2000 may have."""
    if image.format == "PPM":
        return int(COMMENT.sub(b" ", encoded[:HEAD]).split(None, 4)[3])
    return 2 ** ((encoded[encoded.index(SIZES) + 42] & 127) + 1) - 1
