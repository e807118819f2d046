"""WebDataset: tar archives in which neighbouring files of one name are a record (0001.jpg, 0001.cls)."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from job.config import Packed
from job.data.records import LONGEST, TOO_LONG, BrokenShard, Fields

NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")
"""A record's name ends at the first dot of the file's; a file whose name begins with a dot is no part of any."""
CHUNK = 128 * 1024
"""Bytes that tarfile takes at a time; at every read it copies those that are left."""
TRUNCATED = "unexpected end of data"


def read_webdataset(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every record of an archive, compressed or not. A record that the archive's end cuts short is not given."""
    images = str(names.image).lower().split(";")
    words = {role: str(name).lower() for role, name in (("label", names.label), ("group", names.group)) if name}
    wanted = {*images, *words.values()}
    for parts in _records(file, wanted):
        image = next((parts[extension] for extension in images if extension in parts), None)
        texts = {role: content.strip() for role, name in words.items() if (content := parts.get(name)) is not None}
        too_long = any(parts[name] is None for name in wanted & parts.keys())
        yield Fields(image, **texts, known=list(parts), reject=TOO_LONG if too_long else None)


def _records(file: pa.NativeFile, wanted: set[str]) -> Iterator[dict[str, bytes | None]]:
    """The contents by extension of neighbouring files that have their name in common."""
    current = ""
    parts: dict[str, bytes | None] = {}
    for name, extension, content in _members(file, wanted):
        if name != current:
            if parts:
                yield parts
            current, parts = name, {}
        parts.setdefault(extension, content)
    if parts:
        yield parts


def _members(file: pa.NativeFile, wanted: set[str]) -> Iterator[tuple[str, str, bytes | None]]:
    """Name, extension and content of each file; the content is None where it isn't wanted or is too long."""
    try:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header, bufsize=CHUNK) as archive:
            stream: Any = archive
            while (info := stream.next()) is not None:
                stream.members.clear()  # every header so far
                name = NAME.fullmatch(info.name)
                if info.isreg() and name:
                    extension = name[2].lower()
                    yield name[1], extension, _content(stream, info) if extension in wanted else None
            while rest := stream.fileobj.read(CHUNK):
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("data after the end mark")
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise BrokenShard("truncated" if str(error) == TRUNCATED else f"corrupt ({error})") from error


def _content(stream: Any, info: tarfile.TarInfo) -> bytes | None:
    if info.size > LONGEST:
        return None
    content = stream.extractfile(info).read()
    if len(content) < info.size:
        raise tarfile.ReadError(TRUNCATED)
    return content


class _Header(tarfile.TarInfo):
    """tarfile takes a broken header, or none, for the end mark of the archive."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> _Header:
        errors: Any = tarfile
        try:
            return super().fromtarfile(archive)
        except errors.EOFHeaderError:
            raise
        except (errors.EmptyHeaderError, errors.TruncatedHeaderError) as error:
            raise tarfile.ReadError(TRUNCATED) from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
