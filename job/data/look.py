"""What a picture has that may be lost on the way to the network: further pictures, and more than 8 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from job.data.deep import DEEP, bits_of, values_of
from job.data.pictures import FORMATS


@dataclass(frozen=True)
class Look:
    """What a picture has that may be lost on the way."""

    pictures: int = 1
    """Frames of an animation, pages of a TIFF. Of a phone's MPO it is 1: its others belong to the first."""
    deep: bool = False
    """Whether it has more than 8 bits."""
    values: tuple[int, int, int] | None = None
    """Where these are whole numbers, the lowest and the highest, and the bits. Of colours only the upper 8 bits
    are known; these are the bounds."""


def is_usual(first: bytes) -> bool:
    """Whether its first bytes (a header's) say that there is nothing to `look` for."""
    if first.startswith(b"\x89PNG"):
        return first[24] <= 8 and b"acTL" not in first
    return first.startswith((b"\xff\xd8\xff", b"BM"))


def look(encoded: bytes) -> Look:
    """The same as of a usual one where that can't be told."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            bits = bits_of(image, encoded)
            return Look(pictures, bits > 8, _values(image, encoded, bits) if bits > 8 and image.mode != "F" else None)
    except Exception:  # whatever a decoder raises: that it is broken is told elsewhere
        return Look()


def _values(image: Image.Image, encoded: bytes, bits: int) -> tuple[int, int, int]:
    if image.mode in DEEP:
        values = values_of(image, encoded)
        return int(values.min()), int(values.max()), bits
    darkest, lightest = zip(*image.convert("RGB").getextrema(), strict=True)
    return min(darkest) << (bits - 8), ((max(lightest) + 1) << (bits - 8)) - 1, bits
