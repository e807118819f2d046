"""Unpacks files (gzip, bzip2, xz, Zstandard, a ZIP archive of one file), known by their bytes, not by their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import pyarrow as pa

from job.data.sources.signature import HEAD, describe
from job.wording import first_of

GZIP, XZ, ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"(\xb5/\xfd"
BZIP2 = tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
NAMED = 4
"""Files of an archive that an error names."""
BROKEN = (
    *(EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
    *(LookupError, OverflowError, RuntimeError, struct.error),  # of the zipfile module, for archives that are broken
)
"""What reading a broken file raises; RuntimeError also where it is encrypted, or packed by a rare method."""


class NotOneFile(Exception):
    """The file is an archive, or an Office document (which is one inside). The message says what it is."""


@contextmanager
def unpacked(file: BinaryIO) -> Iterator[BinaryIO]:
    """The unpacked contents of the file, as a stream. Raises NotOneFile, and BROKEN here or while reading."""
    first = file.read(HEAD)
    file.seek(0)
    if first.startswith(GZIP):
        with gzip.open(file) as plain:
            yield cast(BinaryIO, plain)
    elif first.startswith(BZIP2):
        with bz2.open(file) as plain:
            yield cast(BinaryIO, plain)
    elif first.startswith(XZ):
        with lzma.open(file) as plain:
            yield cast(BinaryIO, plain)
    elif first.startswith(ZSTD):
        with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as plain:
            yield cast(BinaryIO, plain)
    elif first.startswith(ZIP):
        if "document" in (what := describe(first)):
            raise NotOneFile(what)
        with zipfile.ZipFile(file) as archive, archive.open(_only(archive)) as plain:
            yield cast(BinaryIO, plain)
    else:
        yield file


def _only(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
    if len(files) == 1:
        return files[0]
    named = first_of([entry.filename for entry in files], NAMED)
    raise NotOneFile(f"a ZIP archive of {len(files)} files{': ' if files else ''}{named}")
