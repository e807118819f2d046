"""Reads pictures, in the same way for the plan, the run, predictions and reports.

Pillow opens the header, and finds what can't be read. TensorFlow then decodes JPEG and PNG, as in the exported model
(`job.data.decoding`). Pillow decodes whatever TensorFlow would decode wrongly or not at all, and passes it on as a
plain bitmap.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from job.data.decoding import BACKGROUND, EXIF, HEAD, TRANSPARENCY, Range
from job.data.deep import DEEP, bits_of, scale_colours, scale_key, to_8_bits
from job.data.sources.signature import HEAD as FIRST
from job.data.sources.signature import UNKNOWN, describe
from job.errors import headline

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The formats that are read, by Pillow's names; JPEG includes its MPO."""
RAW = "a camera's raw picture"
TOOLS = {"a HEIC picture": "heif-convert", "a JPEG XL picture": "djxl", RAW: "darktable-cli"}
"""Programs that convert unreadable pictures; ImageMagick for all others."""
BROKEN = "broken image: its pixels can't be decoded (truncated?)"
OPAQUE = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})
TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
ORIENTATION, SUBFILE, SIGN, DNG = 0x0112, 254, 339, 50706
"""Tags of TIFF and EXIF."""
SIGNED = 2
"""The value of the tag SIGN for numbers that may be negative."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNING = (b"eXIf", b"tEXtRaw profile type exif", b"zTXtRaw profile type exif", b"iTXtXML:com.adobe.xmp")
"""The beginnings of PNG chunks that may hold an orientation."""
READ = ("a JPEG", "a PNG", "a GIF", "a BMP", "a TIFF", "a WebP", "an AVIF", "a JPEG 2000")
PNG = b"\x89PNG\r\n\x1a\n"
DRAWN = ("picture", "icon", "drawing", "DICOM file")
"""The endings of descriptions (of `describe`) that mean a picture."""

Image.MAX_IMAGE_PIXELS = None  # data.max_pixels is the bound, and read_picture looks before it decodes
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20  # profiles of printers have more than the megabyte that Pillow allows
warnings.filterwarnings("ignore", module=r"PIL\.")  # of tags that are odd: nobody can do anything about them


class Unreadable(ValueError):
    """A picture or text can't be used; the message says why."""


def inspect_image(encoded: bytes, max_pixels: int, value_range: Range | None = None) -> str | None:
    """The reason, from its header, why an object can't be used; None where it may be decoded."""
    try:
        with _opened(encoded, max_pixels, value_range):
            return None
    except Unreadable as error:
        return str(error)


def plain(encoded: bytes, max_pixels: int, value_range: Range | None = None) -> bytes:
    """Bytes that `decode_image` decodes correctly: `encoded` itself, or the same picture as a bitmap. (CMYK is stored
    inverted; TensorFlow assumes so only where there is an Adobe marker.)

    Raises Unreadable for the reasons of `inspect_image`, and for broken pictures. JPEG and PNG are not decoded here:
    `decode_image` finds broken ones.
    """
    with _opened(encoded, max_pixels, value_range) as image:
        if image.format in ("JPEG", "MPO") and (image.mode != "CMYK" or "adobe" in image.info):
            turn = _turn(image)
            return encoded if turn == 1 and EXIF not in encoded[:HEAD] else _with_turn(encoded, turn)
        if image.format == "PNG" and _alike(image, encoded):
            return encoded
        bitmap = io.BytesIO()
        _seen(image, encoded, value_range).save(bitmap, "BMP")
        return bitmap.getvalue()


def read_picture(encoded: bytes, max_pixels: int, value_range: Range | None = None) -> Image.Image:
    """The picture in RGB as a viewer shows it: turned as its EXIF says, laid on white, 8 bits a colour. Of a file with
    several pictures it is the first. Raises Unreadable.
    """
    with _opened(encoded, max_pixels, value_range) as image:
        return _seen(image, encoded, value_range)


def _opened(encoded: bytes, max_pixels: int, value_range: Range | None) -> Image.Image:
    """Opens a picture without reading its pixels. Raises Unreadable where it can't be used."""
    if not encoded:
        raise Unreadable("empty object")
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        reason = _refused(image, encoded, max_pixels, value_range=value_range)
    except UnidentifiedImageError as error:
        raise Unreadable(_other(encoded)) from error
    except Exception as error:  # whatever a decoder raises that meets nonsense
        known = _what(encoded).removesuffix(" picture") in READ
        raise Unreadable(f"broken image: {headline(error)}" if known else _other(encoded)) from error
    if reason:
        image.close()
        raise Unreadable(reason)
    return image


def _refused(image: Image.Image, encoded: bytes, max_pixels: int, *, value_range: Range | None) -> str | None:
    if image.width * image.height > max_pixels:
        return f"{image.width}×{image.height} is more than data.max_pixels ({max_pixels})"
    tags: Any = getattr(image, "tag_v2", {})
    if DNG in tags or tags.get(SUBFILE, 0) & 1 or (tags and describe(encoded[:FIRST]) == RAW):  # a preview comes first
        return _convert(RAW)
    if image.mode not in OPAQUE | TRANSPARENT | DEEP:
        return f"its colours ({image.mode}) can't be read: convert it to RGB"
    bits = bits_of(image, encoded)
    if SIGNED in tags.get(SIGN, ()) and (bits <= 8 or value_range is None):
        todo = "convert it" if bits <= 8 else "set data.value_range"
        return f"values of {bits} bits with a sign have no usual range: {todo}"
    if value_range is None and bits > 16:
        return f"values of {bits} bits have no usual range: set data.value_range"
    upper_bits = bits > 8 and image.mode not in DEEP and (image.format != "PNG" or not _alike(image, encoded))
    if value_range is not None and upper_bits:  # all that Pillow knows of them
        return f"colours of {bits} bits are scaled from data.value_range in PNG alone, and not turned: convert it"
    return None


def _other(encoded: bytes) -> str:
    """The reason for rejecting bytes in which Pillow finds no picture."""
    what = _what(encoded)
    if what in (UNKNOWN, "text") and any(signature in encoded[:FIRST] for signature in (b"\xff\xd8\xff", PNG)):
        return "there is a picture in it, but other bytes in front of that: remove them"
    if what.removesuffix(" picture") in READ:
        return f"it begins as {what}, but is broken, or of a kind that can't be read: convert it to JPEG or PNG"
    return _convert(what) if what.endswith(DRAWN) else f"not an image: it is {what}"


def _what(encoded: bytes) -> str:
    """The kind of a file, in the same words for all of its kind: rejects are counted by them."""
    return describe(encoded[:FIRST]).partition(" (")[0]


def _convert(what: str) -> str:
    return f"it is {what}, which can't be read: convert it to JPEG or PNG (with {TOOLS.get(what, 'ImageMagick')})"


def _alike(image: Image.Image, encoded: bytes) -> bool:
    """Whether TensorFlow decodes this PNG to what a viewer shows."""
    if "transparency" in image.info and TRANSPARENCY not in encoded[:HEAD]:
        return False
    return not _may_turn(encoded) or _turn(image) == 1


def _may_turn(png: bytes) -> bool:
    at = 8
    while at + 8 <= len(png):
        if png.startswith(TURNING, at + 4):
            return True
        at += 12 + int.from_bytes(png[at : at + 4], "big")
    return False


def _turn(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it can't be read. Pillow itself turns a TIFF."""
    if image.format in ("JPEG", "MPO") and not {"exif", "xmp"} & image.info.keys():
        return 1
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever the parser meets: a viewer shows such a picture as it is stored
        return 1
    return orientation if orientation in TURNS else 1


def _with_turn(encoded: bytes, turn: int) -> bytes:
    """The JPEG with a first EXIF segment that holds this orientation alone; others, also in XMP, may be anywhere."""
    entry = struct.pack(">HHIHH", ORIENTATION, 3, 1, turn, 0)
    content = EXIF + b"MM" + struct.pack(">HIH", 42, 8, 1) + entry + bytes(4)
    return encoded[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content + encoded[2:]


def _seen(image: Image.Image, encoded: bytes, value_range: Range | None) -> Image.Image:
    """The opened picture in RGB, as a viewer shows it. Raises Unreadable."""
    bits = bits_of(image, encoded)
    try:
        image.load()
        turn = _turn(image)
        if image.mode in DEEP:
            image = to_8_bits(image, encoded, value_range)
        elif image.format == "PNG" and bits != 8:
            scale_key(image, bits)
            image = scale_colours(image, value_range) if bits == 16 and value_range else image
        if image.mode in TRANSPARENT or "transparency" in image.info:
            image = _on_background(image)
        elif image.mode != "RGB":
            image = image.convert("RGB")
        return image.transpose(TURNS[turn]) if turn in TURNS else image
    except Exception as error:  # whatever a decoder raises
        raise Unreadable(BROKEN) from error


def _on_background(image: Image.Image) -> Image.Image:
    """The picture on a white background. In a BMP that is transparent everywhere, the fourth byte has no meaning."""
    rgba, seen = image.convert("RGBA"), Image.new("RGB", image.size, (BACKGROUND,) * 3)
    alpha = rgba.getchannel("A")
    if image.format == "BMP" and alpha.getextrema() == (0, 0):
        return rgba.convert("RGB")
    seen.paste(rgba, mask=alpha)
    return seen
