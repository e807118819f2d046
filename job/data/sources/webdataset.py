"""Reads WebDataset: tar archives in which neighbouring files of one name are a record (0001.jpg, 0001.cls)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Any, NamedTuple

import pyarrow as pa

from job.config import Packed
from job.data.selection import is_hidden
from job.data.sources.expanding import expanded
from job.data.sources.fields import NoJson, field_of, name_a_field, parse_json, paths_of
from job.data.sources.records import LONGEST, TOO_LONG, BrokenShard, Fields, WrongLayout
from job.data.sources.signature import wrong_layout
from job.errors import DataError

CHUNK = 128 * 1024
"""Bytes that tarfile reads at a time; every read copies those that are left."""
HEADER = 2**20
"""Bytes of the longest header (a long name, PAX), which tarfile reads whole."""
HELD, HELD_BYTES = 64, 64 * 2**20
"""Files of one name, and their bytes, that are read before the decision where names end."""
TRUNCATED = "unexpected end of data"
LINK = "a link, whose bytes are not in the archive (tar --dereference --hard-dereference puts them there)"
JOINED = "data after the end mark; archives that cat has joined must be files of their own"
NUMBERED = "a part of another record, whose name ends at its first dot (a.1.jpg is 1.jpg of a): name files without dots"
SPARSE = "a sparse file, which is not read"
FAULTS = (tarfile.TarError, ValueError, EOFError, IndexError, OverflowError, RecursionError)
"""What tarfile raises for broken headers."""

Part = bytes | str | None
"""The bytes of a file; the reason (str) why they can't be read; None where they are not needed."""
Parts = dict[str, Part]
"""The parts of a record by extension, in lower case."""


class TarMember(NamedTuple):
    """A file of the archive."""

    name: str
    """The folder and the file's name up to its first dot."""
    extension: str
    """The rest of the file's name after that dot, in lower case."""
    is_field: bool
    """Whether `extension` is that of an image, a label or a group."""
    end: str
    """The extension of an image, a label or a group that its name ends with; "" where it ends with none."""
    part: Part


def read_webdataset(file: pa.NativeFile, names: Packed, uri: str) -> Iterator[Fields]:
    """Every record of an archive, compressed or not, but for one that the end of the archive cuts short.

    Raises DataError where the label, or the group, of the first record is an object that has fields.
    """
    contents = expanded(file)
    if wrong := wrong_layout(contents.first, "webdataset"):
        raise WrongLayout(wrong)
    images = str(names.image).lower().split(";")
    words = {role: str(name) for role, name in (("label", names.label), ("group", names.group)) if name}
    extensions = {*images, *(part for name in words.values() for part in _parts_of(name))}
    for position, parts in enumerate(_records(_members(contents, extensions))):
        fields = _fields(parts, images, words)
        for role, name in words.items():
            if position == 0 and isinstance(value := getattr(fields, role), dict):
                raise DataError(name_a_field(f"data.packed.{role}", name, value, where=uri))
        yield fields


def _fields(parts: Parts, images: list[str], words: dict[str, str]) -> Fields:
    known, reasons = list(parts), list[str]()
    image = next((parts[extension] for extension in images if extension in parts), None)
    if isinstance(image, str):
        reasons.append(TOO_LONG if image == TOO_LONG else f"image is {image}")
        image = None
    values: dict[str, Any] = {}
    for role, name in words.items():
        part = next((part for part in _parts_of(name) if part in parts), "")
        content = parts.get(part)
        if isinstance(content, bytes):
            try:
                values[role], fields = _value(content, part, name[len(part) + 1 :])
                known += fields
            except NoJson as error:
                reasons.append(f"{part} is no JSON ({error})")
        elif content is not None:
            reasons.append(TOO_LONG if content == TOO_LONG else f"{role} is {content}")
    return Fields(image, **values, known=known, reject=reasons[0] if reasons else None)


def _parts_of(name: str) -> list[str]:
    """The extensions of the files that may have a label of this name: json.label, or json with a field `label`."""
    lower = name.lower()
    return [lower, *(lower[:at] for at in range(len(lower) - 1, 0, -1) if lower[at] == ".")]


def _value(content: bytes, part: str, path: str) -> tuple[Any, list[str]]:
    """A text, or the value at a path of a JSON document; and where there is no such value, the paths of the document.

    Raises NoJson.
    """
    content = content.strip()
    if not path and not part.endswith("json"):
        if not content.startswith((b"{", b"[")):
            return content, []
        try:
            return parse_json(content), []
        except NoJson:
            return content, []
    document = parse_json(content)
    value = field_of(document, path)
    return value, [f"{part}.{name}" for name in paths_of(document)] if value is None else []


def _records(members: Iterable[TarMember]) -> Iterator[Parts]:
    """The contents by extension of neighbouring files that have their name in common.

    A name ends at its file's first dot. Where by that rule no file of a name has the extension of a field (1.05.jpg and
    1.05.cls would be 05.jpg and 05.cls of the record 1), it ends before such an extension, or else at the last dot.
    """
    for _, group in groupby(members, key=lambda member: member.name):
        rest, held, size, first_dot = iter(group), list[TarMember](), 0, False
        for member in rest:
            held.append(member)
            size += len(member.part or "")
            first_dot = member.is_field
            if first_dot or len(held) >= HELD or size > HELD_BYTES:
                break
        files = chain(held, rest)
        if first_dot or not any(member.end for member in held):
            yield from _by_first_dot(files)
            continue
        for _, same in groupby(map(_by_end, files), key=lambda named: named[0]):
            yield from _joined((extension, part) for _, extension, part in same)


def _by_first_dot(files: Iterable[TarMember]) -> Iterator[Parts]:
    """The records of the files of a name. Files such as 1.jpg and 1.cls among them were meant as a record of their own:
    each such pair gives a record that is rejected.
    """
    numbered: dict[str, list[str]] = {}

    def parts() -> Iterator[tuple[str, Part]]:
        for member in files:
            yield member.extension, member.part if member.is_field else None
            number = member.extension[: -len(member.end) - 1]
            if member.end and number[:1].isdigit() and (number in numbered or len(numbered) < HELD):
                numbered.setdefault(number, []).append(member.end)

    yield from _joined(parts())
    for ends in numbered.values():
        if len(ends) > 1:
            reasons: Parts = dict.fromkeys(ends, NUMBERED)
            yield reasons


def _by_end(member: TarMember) -> tuple[str, str, Part]:
    """The name, the extension and the part of a member, where its name ends as late as possible."""
    name, extension = f"{member.name}.{member.extension}", member.end or member.extension.rpartition(".")[2]
    return name[: -len(extension) - 1], extension, member.part


def _joined(parts: Iterable[tuple[str, Part]]) -> Iterator[Parts]:
    """The records of one name. The next record begins where an extension with a part occurs again."""
    record: Parts = {}
    for extension, part in parts:
        if part is not None and record.get(extension) is not None:
            yield record
            record = {}
        record.setdefault(extension, part)
    yield record


def _members(contents: Any, extensions: set[str]) -> Iterator[TarMember]:
    longest_first = sorted(extensions, key=len, reverse=True)
    try:
        with tarfile.open(fileobj=contents, mode="r|", tarinfo=_Header, bufsize=CHUNK) as archive:
            stream: Any = archive
            while (info := _next(stream)) is not None:
                name = info.name.removeprefix("./")
                folder, slash, file = name.rpartition("/")
                stem, _, extension = file.partition(".")
                if not stem or not extension or info.isdir() or is_hidden(name):
                    continue
                extension = extension.lower()
                known = extension in extensions
                ends = (end for end in longest_first if extension.endswith(f".{end}"))
                end = extension if known else next(ends, "")
                part = _part(stream, info) if end else None
                yield TarMember(folder + slash + stem, extension, known, end, part)
            while rest := stream.fileobj.read(CHUNK):
                if rest.strip(b"\0"):
                    raise tarfile.ReadError(JOINED)
    except FAULTS as error:
        raise BrokenShard("truncated" if str(error) == TRUNCATED else f"corrupt ({error})") from error


def _next(stream: Any) -> tarfile.TarInfo | None:
    """The header of the next file. Raises ReadError where the last one claims a size beyond the end of the archive:
    tarfile by itself would read on for ever.
    """
    while stream.firstmember is None and (left := stream.offset - 1 - stream.fileobj.tell()) > 0:
        if not stream.fileobj.read(min(left, CHUNK)):
            raise tarfile.ReadError(TRUNCATED)
    info: tarfile.TarInfo | None = stream.next()
    stream.members.clear()  # every header so far
    return info


def _part(stream: Any, info: tarfile.TarInfo) -> Part:
    if info.islnk() or info.issym():
        return LINK
    if not info.isreg() or info.issparse():
        return SPARSE if info.issparse() else "no file"
    if info.size > LONGEST:
        return TOO_LONG
    content = stream.fileobj.read(info.size)  # it is there: the archive was read up to its header's end
    if len(content) < info.size:
        raise tarfile.ReadError(TRUNCATED)
    return content


class _Header(tarfile.TarInfo):
    """Raises ReadError for a broken or missing header, which tarfile takes for the end mark of the archive."""

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

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in (*GNU_NAMES, *PAX_TYPES) and header.size > HEADER):
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


GNU_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
PAX_TYPES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
