"""Pictures as people have them: each kind of file by its name, made small, and what is seen in it."""

from __future__ import annotations

import io
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable

import numpy as np
from PIL import Image

SIDE = 32
_random = np.random.default_rng(0)
_steps = _random.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
COLOURS = Image.fromarray(_steps)
"""RGB, of 16 squares."""
GREY = COLOURS.convert("L")
ALPHA = Image.fromarray(_random.integers(0, 256, (SIDE, SIDE), np.uint8))
WIDE = _random.integers(0, 2**16, (SIDE, SIDE), np.uint16)


def saved(picture: Image.Image, form: str, **how: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, form, **how)
    return content.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F] = "a camera"
    tags[0x0112] = orientation
    return tags


def transparent() -> Image.Image:
    picture = COLOURS.convert("RGBA")
    picture.putalpha(ALPHA)
    return picture


def indexed(colours: int = 16) -> Image.Image:
    return COLOURS.quantize(colours)


def png(depth: int, colour: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of bytes [height, bytes of a row]."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, depth, colour, 0, 0, 0)
    packed = zlib.compress(np.pad(rows, [(0, 0), (1, 0)]).astype(np.uint8).tobytes())
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), *chunks, (b"IDAT", packed), (b"IEND", b""))
    )


def wide_png(colour: int, channels: int, values: np.ndarray | None = None) -> bytes:
    values = np.stack([WIDE if values is None else values] * channels, -1)
    return png(16, colour, np.frombuffer(values.astype(">u2").tobytes(), np.uint8).reshape(SIDE, -1))


def packed_grey(bits: int, *chunks: tuple[bytes, bytes]) -> bytes:
    values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2**bits
    each = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return png(bits, 0, np.packbits(each.reshape(SIDE, -1), axis=1), *chunks)


def run_length_bmp() -> bytes:
    """8 bits, RLE: a run for each row."""
    palette = b"".join(bytes([index, 255 - index, 7, 0]) for index in range(256))
    rows = b"".join(bytes([SIDE, 5 * row, 0, 0]) for row in range(SIDE)) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, len(rows), 0, 0, 256, 256)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def sixteen_bit_bmp() -> bytes:
    """5 bits a colour."""
    values = np.random.default_rng(1).integers(0, 2**15, (SIDE, SIDE)).astype("<u2").tobytes()
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 16, 0, len(values), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(values), 0, 0, 54) + header + values


def masked_bmp(alpha: int) -> bytes:
    """32 bits, with a mask for the fourth byte."""
    values = np.dstack([np.asarray(COLOURS)[::-1, :, ::-1], np.full((SIDE, SIDE), alpha, np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, SIDE, SIDE, 1, 32, 3, len(values), 0, 0, 0, 0) + masks + bytes(52)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(values), 0, 0, start) + header + values


def tiff(bits: int, rows: bytes, photometric: int = 1, channels: int = 1) -> bytes:
    """A TIFF of one strip, without compression."""
    entries = [
        (256, 3, 1, SIDE),
        (257, 3, 1, SIDE),
        (258, 3, channels, bits if channels == 1 else 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 2 * channels),
        (277, 3, 1, channels),
        (278, 3, 1, SIDE),
        (279, 4, 1, len(rows)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + struct.pack("<H", bits) * channels + rows


def twelve_bit_tiff() -> bytes:
    values = (WIDE >> 4).reshape(-1, 2).astype(np.uint32)
    pairs = values[:, 0] << 12 | values[:, 1]
    return tiff(12, np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], -1).astype(np.uint8).tobytes())


def unmarked_cmyk() -> bytes:
    """Whose colours are inverted, and nothing says so."""
    marked = saved(COLOURS.convert("CMYK"), "JPEG")
    start = marked.index(b"\xff\xee")
    return marked[:start] + marked[start + 2 + int.from_bytes(marked[start + 2 : start + 4], "big") :]


READ: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(COLOURS, "JPEG", quality=85),
    "JPEG, grey": lambda: saved(GREY, "JPEG"),
    "JPEG, progressive": lambda: saved(COLOURS, "JPEG", progressive=True),
    "JPEG, CMYK": lambda: saved(COLOURS.convert("CMYK"), "JPEG"),
    "JPEG, CMYK without a marker": unmarked_cmyk,
    "JPEG, no subsampling": lambda: saved(COLOURS, "JPEG", subsampling=0),
    "JPEG, bytes behind it": lambda: saved(COLOURS, "JPEG") + b"\0" * 99 + b"more",
    "JPEG, turned": lambda: saved(COLOURS, "JPEG", exif=exif(6)),
    "JPEG, turned, EXIF far behind": lambda: saved(COLOURS, "JPEG", exif=exif(8), icc_profile=bytes(9000)),
    "MPO": lambda: saved(COLOURS, "MPO", save_all=True, append_images=[GREY.convert("RGB").resize((16, 16))]),
    "MPO, turned": lambda: saved(COLOURS, "MPO", save_all=True, append_images=[COLOURS], exif=exif(3)),
    **{f"PNG, {bits} bit": lambda bits=bits: packed_grey(bits) for bits in (1, 2, 4, 8)},  # type: ignore[misc]
    "PNG, grey, a transparent value": lambda: packed_grey(8, (b"tRNS", b"\0\3")),
    "PNG, RGB": lambda: saved(COLOURS, "PNG"),
    "PNG, RGB, a transparent colour": lambda: saved(COLOURS, "PNG", transparency=tuple(_steps[0, 0].tolist())),
    "PNG, RGBA": lambda: saved(transparent(), "PNG"),
    "PNG, LA": lambda: saved(transparent().convert("LA"), "PNG"),
    "PNG, palette": lambda: saved(indexed(), "PNG"),
    "PNG, palette of 256": lambda: saved(indexed(256), "PNG"),
    "PNG, palette, transparent": lambda: saved(indexed(), "PNG", transparency=bytes([0, 100, 255])),
    "PNG, transparency far behind": lambda: saved(indexed(), "PNG", transparency=2, icc_profile=_random.bytes(9000)),
    "PNG, text of megabytes": lambda: png(8, 0, np.asarray(GREY), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**22)))),
    "PNG, 16 bit": lambda: wide_png(0, 1),
    "PNG, 16 bit RGB": lambda: wide_png(2, 3),
    "PNG, 16 bit with alpha": lambda: wide_png(4, 2),
    "PNG, turned": lambda: saved(COLOURS, "PNG", exif=exif(5)),
    "PNG, animated": lambda: saved(COLOURS, "PNG", save_all=True, append_images=[COLOURS.rotate(90)]),
    "BMP": lambda: saved(COLOURS, "BMP"),
    "BMP, 1 bit": lambda: saved(GREY.convert("1"), "BMP"),
    "BMP, grey": lambda: saved(GREY, "BMP"),
    "BMP, palette": lambda: saved(indexed(), "BMP"),
    "BMP, RLE": run_length_bmp,
    "BMP, 16 bit": sixteen_bit_bmp,
    "BMP, 32 bit": lambda: saved(transparent(), "BMP"),
    "BMP, 32 bit, opaque": lambda: masked_bmp(255),
    "GIF": lambda: saved(indexed(), "GIF"),
    "GIF, transparent": lambda: saved(indexed(), "GIF", transparency=3),
    "GIF, animated": lambda: saved(COLOURS, "GIF", save_all=True, append_images=[COLOURS.rotate(90)]),
    "WebP": lambda: saved(COLOURS, "WEBP"),
    "WebP, lossless": lambda: saved(COLOURS, "WEBP", lossless=True),
    "WebP, transparent": lambda: saved(transparent(), "WEBP"),
    "WebP, animated": lambda: saved(COLOURS, "WEBP", save_all=True, append_images=[COLOURS.rotate(90)]),
    "WebP, turned": lambda: saved(COLOURS, "WEBP", exif=exif(7)),
    "TIFF": lambda: saved(COLOURS, "TIFF"),
    "TIFF, LZW": lambda: saved(COLOURS, "TIFF", compression="tiff_lzw"),
    "TIFF, deflate, transparent": lambda: saved(transparent(), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, JPEG inside": lambda: saved(COLOURS, "TIFF", compression="jpeg"),
    "TIFF, 1 bit": lambda: saved(GREY.convert("1"), "TIFF", compression="group4"),
    "TIFF, palette": lambda: saved(indexed(), "TIFF"),
    "TIFF, CMYK": lambda: saved(COLOURS.convert("CMYK"), "TIFF"),
    "TIFF, 16 bit": lambda: saved(Image.fromarray(WIDE), "TIFF"),
    "TIFF, pages": lambda: saved(COLOURS, "TIFF", save_all=True, append_images=[GREY, GREY]),
    "TIFF, turned": lambda: saved(COLOURS, "TIFF", exif=exif(6)),
    "TIFF, 12 bit": lambda: twelve_bit_tiff(),
    "AVIF": lambda: saved(COLOURS, "AVIF"),
    "AVIF, transparent": lambda: saved(transparent(), "AVIF"),
    "AVIF, turned": lambda: saved(COLOURS, "AVIF", exif=exif(6)),
    "JPEG 2000": lambda: saved(COLOURS, "JPEG2000"),
    "JPEG 2000, 16 bit": lambda: saved(Image.fromarray(WIDE), "JPEG2000"),
    "PPM": lambda: saved(COLOURS, "PPM"),
    "PGM": lambda: saved(GREY, "PPM"),
    "PGM, 16 bit": lambda: b"P5 32 32 65535\n" + WIDE.astype(">u2").tobytes(),
}
SEVERAL = {"PNG, animated": 2, "GIF, animated": 2, "WebP, animated": 2, "TIFF, pages": 3}
REFUSED: dict[str, tuple[bytes, str]] = {
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), "it is a HEIC picture, which can't be read: convert it"),
    "a camera's raw picture": (
        saved(COLOURS, "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
        "it is a camera's raw picture, which can't be read",
    ),
    "Canon's raw picture": (
        b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + saved(COLOURS, "TIFF")[8:],
        "it is a camera's raw picture, which can't be read: convert it to JPEG or PNG (with darktable-cli)",
    ),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG drawing, which can't be read"),
    "JPEG XL": (b"\xff\x0a" + bytes(40), "it is a JPEG XL picture, which can't be read"),
    "Photoshop": (b"8BPS\0\1" + bytes(40), "it is a Photoshop picture, which can't be read"),
    "a film": (b"\0\0\0\x18ftypisom" + bytes(40), "not an image: it is an MP4 film"),
    "a page": (b"<!DOCTYPE html><title>404</title>", "not an image: it is an HTML page"),
    "a text": (b"just text, whatever the name says", "not an image: it is text"),
    "base64": (
        b64encode(saved(COLOURS, "JPEG")),
        "not an image: it is base64 text of a picture",
    ),
    "a blank line in front": (
        b"\r\n" + saved(COLOURS, "JPEG"),
        "there is a picture in it, but other",
    ),
    "a header in front": (b"HTTP/1.1 200 OK\r\n\r\n" + saved(COLOURS, "PNG"), "there is a picture in it, but other"),
    "nothing known": (b"\1\2\3\4\5\6\7\0", "not an image: it is nothing that is known"),
    "empty": (b"", "empty object"),
    "TIFF, 32 bit": (
        saved(Image.fromarray(WIDE.astype(np.float32)), "TIFF"),
        "values of 32 bits have no usual range: set data.value_range",
    ),
    "TIFF, 16 bit with a sign": (
        saved(Image.fromarray(WIDE), "TIFF", tiffinfo={339: 2}),
        "values of 16 bits with a sign have no usual range: set data.value_range",
    ),
    "TIFF, Lab": (saved(Image.new("LAB", (8, 8)), "TIFF"), "its colours (LAB) can't be read: convert it to RGB"),
    "TIFF, cut": (
        saved(COLOURS, "TIFF")[:20],
        "it begins as a TIFF picture, but is broken, or of a kind",
    ),
}
