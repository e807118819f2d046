"""Finds the encoding of a text: by the job file, by its byte order mark, or by its bytes."""

from __future__ import annotations

import codecs
import re

from job.data.sources.signature import BOMS

NAMES = {"cp1252": "Windows-1252", "utf-16-le": "UTF-16 (utf-16-le)", "utf-16-be": "UTF-16 (utf-16-be)"}
"""The names of guessed encodings in errors and notes."""
ZEROS = 0.3
"""A text in UTF-16 has more than this share of zero bytes at every other place: most characters are Latin."""
CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x19\x1c-\x1f]")
"""Bytes that occur in no text of an 8-bit encoding."""
UNUSED = (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d")
"""Bytes that Windows-1252 has no character for."""
PIECE = 1 << 20
"""Bytes that are decoded at a time."""
ASCII = bytes(range(0x80))
RUNS = re.compile(rb"[\x80-\xff]{3,}")
"""In the languages of Windows-1252, accented letters stand alone or in twos; in others, whole words are such bytes."""


def marked(first: bytes) -> str | None:
    """The encoding that the byte order mark means; None without one."""
    return next((encoding for mark, encoding in BOMS if first.startswith(mark)), None)


def is_utf8(content: bytes) -> bool:
    """Whether the content is valid UTF-8, and not UTF-16 that happens to be valid."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(content), PIECE):
            decoder.decode(content[at : at + PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return _utf16(content) is None


def guessed(content: bytes) -> str | None:
    """The guessed encoding of a text without a mark: `utf-8`, `cp1252`, `utf-16-le` or `utf-16-be`; None if unclear."""
    if (wide := _utf16(content)) is not None:
        return wide
    if is_utf8(content):
        return "utf-8"
    high = len(content.translate(None, ASCII))
    together = sum(map(len, RUNS.findall(content)))
    if CONTROLS.search(content) or together > high / 2 or any(byte in content for byte in UNUSED):
        return None
    return "cp1252"


def as_utf8(content: bytes, encoding: str | None) -> bytes:
    """The text in UTF-8, decoded as its byte order mark or `encoding` says; unchanged where that fails."""
    known = marked(content) or encoding
    if known is None:
        return content
    try:
        return content.decode(known).encode()
    except (UnicodeError, ValueError):
        return content


def reads_utf8_as(content: bytes, encoding: str) -> bool:
    """Whether a text that is read as `encoding` is also valid UTF-8, with letters beyond ASCII."""
    return (
        marked(content) is None and not content.isascii() and as_utf8(content, encoding) != content and is_utf8(content)
    )


def _utf16(content: bytes) -> str | None:
    """The byte order of UTF-16, where every other byte is often zero and the bytes between never are; else None."""
    first, second = (content[start:4096:2].count(0) for start in (0, 1))
    half = min(len(content), 4096) // 2
    if half and first != second and max(first, second) > ZEROS * half and not min(first, second):
        return "utf-16-be" if first > second else "utf-16-le"
    return None
