"""Looks for what a picture may lose on its way to the network: further frames, and values of more than 8 bits."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from job.data.deep import DEEP, bits_of, values_of
from job.data.pictures import FORMATS


@dataclass(frozen=True)
class Look:
    """The properties of a picture that may be lost on its way to the network."""

    pictures: int = 1
    """Frames of an animation, pages of a TIFF; 1 for a phone's MPO, whose further pictures belong to the first."""
    deep: bool = False
    """Whether it has more than 8 bits."""
    values: tuple[int, int, int] | None = None
    """The lowest and the highest value, and the bits of each, where the values are whole numbers. Only the upper 8 bits
    of colours are known: for these the two are bounds."""


def is_usual(first: bytes) -> bool:
    """Whether the first bytes of a picture (its header) show that there is nothing to `look` for."""
    if first.startswith(b"\x89PNG"):
        return first[24] <= 8 and b"acTL" not in first
    return first.startswith((b"\xff\xd8\xff", b"BM"))


def look(encoded: bytes) -> Look:
    """Looks into a picture. One that can't be opened gives the Look of a usual picture."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            pictures = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            bits = bits_of(image, encoded)
            return Look(pictures, bits > 8, _values(image, encoded, bits) if bits > 8 and image.mode != "F" else None)
    except Exception:  # whatever a decoder raises: broken pictures are reported elsewhere
        return Look()


def _values(image: Image.Image, encoded: bytes, bits: int) -> tuple[int, int, int]:
    if image.mode in DEEP:
        values = values_of(image, encoded)
        return int(values.min()), int(values.max()), bits
    darkest, lightest = zip(*image.convert("RGB").getextrema(), strict=True)
    return min(darkest) << (bits - 8), ((max(lightest) + 1) << (bits - 8)) - 1, bits
