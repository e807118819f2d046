"""Decompresses files (gzip, zlib, bzip2, xz, Zstandard), known by their first bytes, not by their names."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa

from job.data.sources.records import BrokenShard

HEAD = 512
"""Bytes at the start of a file that are enough to recognise it."""
CHUNK = 128 * 1024
"""Bytes that are read, and at most decompressed, at a time. Even a file that expands endlessly needs no more memory."""
PIECE = 16 * 1024
"""Bytes of a Zstandard file that are decompressed at a time. As many may be lost where the file is truncated."""


class Source(Protocol):
    def read(self, size: int) -> bytes: ...


class Ahead:
    """A file that is read once, from its beginning, with its `first` bytes known before."""

    def __init__(self, file: Source) -> None:
        self.first = self._left = _first_of(file)
        self._file = file

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty only at the end. Raises BrokenShard after the last bytes that could be read."""
        if not self._left:
            return self._file.read(size)
        part, self._left = self._left[:size], self._left[size:]
        return part


def expanded(file: Source) -> Ahead:
    """The decompressed contents of the file, or the file itself where it is not compressed."""
    plain = Ahead(file)
    expand = expander_of(plain.first)
    return Ahead(expand(plain)) if expand else plain


def expander_of(first: bytes) -> Callable[[Source], Source] | None:
    """The decompressor of a file with these first bytes; None where it is not compressed."""
    for signature, expand in EXPANDERS.items():
        if first.startswith(signature):
            return expand
    return _expand_zlib if _is_zlib(first) else None


class _Expanded:
    """The contents of a file of several compressed streams, one after another."""

    def __init__(self, file: Source, stream: Callable[[], Any]) -> None:
        self._file, self._stream = file, stream
        self._expander, self._input = stream(), b""
        self._ready, self._at, self._begun, self._fault = b"", 0, False, ""

    def read(self, size: int) -> bytes:
        while self._at == len(self._ready):
            if self._fault:
                raise BrokenShard(self._fault)
            self._at = 0
            if not self._expand():
                return b""
        part = self._ready[self._at : self._at + size]
        self._at += len(part)
        return part

    def _expand(self) -> bool:
        """Decompresses the next bytes, possibly none yet. Returns whether the file goes on."""
        self._ready = b""
        if self._expander.eof:
            self._input = self._expander.unused_data.lstrip(b"\0")  # gzip allows such an end
            self._expander, self._begun = self._stream(), False
        while not self._input and getattr(self._expander, "needs_input", True):
            content = self._file.read(CHUNK)
            if not content:
                self._fault = "truncated" if self._begun else ""
                return self._begun
            self._input = content if self._begun else content.lstrip(b"\0")
        self._begun = True
        try:
            self._ready = self._expander.decompress(self._input, CHUNK)
        except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
            self._fault = f"corrupt ({error})"
            return True
        self._input = getattr(self._expander, "unconsumed_tail", b"")  # what zlib has not looked at
        return True


class _Zstandard:
    """Decompresses Zstandard through Arrow's files; Arrow has no incremental decompressor."""

    def __init__(self, file: Source) -> None:
        self._watched = Watched(file)
        self._file = pa.CompressedInputStream(pa.PythonFile(self._watched, mode="r"), "zstd")

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(min(size, PIECE))
        except (OSError, pa.ArrowException) as error:
            reason = self._watched.fault_of_contents(error)
            raise BrokenShard("truncated" if self._watched.ended else reason) from error


class Watched:
    """A file that remembers an error of the storage: Arrow raises the same types for contents that it can't read."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None
        self.ended = False

    def fault_of_contents(self, error: Exception) -> str:
        """The reason why the contents can't be read. Raises the storage's error where there was one."""
        if self.error is not None:
            raise self.error
        lines = str(error).splitlines() or [type(error).__name__]
        return f"corrupt ({lines[0].rstrip('.')})"

    def read(self, size: int = -1) -> bytes:
        try:
            content = self.file.read(size)
        except OSError as error:
            self.error = error
            raise
        self.ended = not content and size != 0
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def close(self) -> None:
        self.closed = True


def _expand_zlib(file: Source) -> Source:
    return _Expanded(file, lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 32))  # gzip's header or zlib's


EXPANDERS: dict[bytes, Callable[[Source], Source]] = {
    b"\x1f\x8b\x08": _expand_zlib,
    b"BZh": lambda file: _Expanded(file, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda file: _Expanded(file, lzma.LZMADecompressor),
    b"(\xb5/\xfd": _Zstandard,
}


def _is_zlib(first: bytes) -> bool:
    """Whether this is a zlib stream. The header of two bytes is no proof: other files begin so, too."""
    if len(first) < 2 or first[0] & 15 != 8 or int.from_bytes(first[:2], "big") % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(first, HEAD))
    except zlib.error:
        return False


def _first_of(file: Source) -> bytes:
    first = b""
    try:
        while len(first) < HEAD and (more := file.read(HEAD - len(first))):
            first += more
    except BrokenShard:  # raised again where the next bytes are asked for
        pass
    return first
