"""Reads columns of a table in CSV, Parquet, JSON or JSON lines, known by its bytes rather than by its name."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from job.data.sources.delimited import read_delimited
from job.data.sources.encoding import NAMES, guessed, marked, reads_utf8_as
from job.data.sources.headings import NoColumn
from job.data.sources.jsontable import read_json_rows
from job.data.sources.label_values import NoName, names_of
from job.data.sources.signature import HEAD, describe
from job.data.sources.unpack import BROKEN, NotOneFile, unpacked

LARGEST = 8 * 2**30
"""Bytes of a table, unpacked, that are read into memory."""
WANTED = "A table is CSV, Parquet, JSON or JSON lines, also packed (gzip, bzip2, xz, zstd, a ZIP archive of it alone)"
JSON = re.compile(r"\ufeff?\s*(\{\s*\"|\[\s*\{)")
"""A beginning that is JSON, and no header of CSV."""
BINARY = ("picture", "film", "recording")
"""The endings of descriptions (of `describe`) of files that can't be text."""
BLANK = b"\0 \t\r\n\xef\xbb\xbf\xff\xfe"
"""Bytes of which a blank file consists, byte order marks included."""
UNREADABLE = (pa.ArrowException, UnicodeError)

Choose = Callable[[list[str]], list[int]]
"""The names of a table's columns -> the places of those to read. Raises NoColumn."""


class NoTable(Exception):
    """The file is no table. The message says what it is, or what is wrong with it, and what to do."""


@dataclass(frozen=True)
class Columns:
    values: list[pa.ChunkedArray]
    """Columns of strings, null where there is no value."""
    notes: list[str]
    """Assumptions about the file, each a sentence without its subject, the name of the file."""


def read_columns(content: bytes, name: str, encoding: str | None, *, expected: list[str], choose: Choose) -> Columns:
    """The columns that `choose` takes, in its order.

    `name` decides only between forms of text (`.json`, `.jsonl`). `encoding` is that of a text without a byte order
    mark, and is guessed where it is None. `expected` are names of columns, by which the delimiter is found. Raises
    NoTable, NoColumn.
    """
    content = _unpacked(content)
    if not content[:HEAD].strip(BLANK) and not content.strip(BLANK):
        raise NoTable("is empty: the first row names the columns, and each further one is an example")
    if content.startswith(b"PAR1"):
        return Columns(_parquet(content, choose), [])
    given = marked(content) or encoding
    known = given or guessed(content)
    if known is None:
        what = describe(content[:HEAD])
        if what.startswith(("text", "nothing")):
            raise NoTable(
                f"is not UTF-8, and what it is written in can't be told ({what}): set data.encoding (cp1252, "
                "shift_jis, …), or save it as UTF-8"
            )
        raise NoTable(f"is {what}. {WANTED}")
    try:
        values = _of_text(content, name, known, expected=expected, choose=choose)
    except UnicodeError as error:
        where = _undecodable(content, known)
        raise NoTable(f"is not written in {known} ({where}): set data.encoding to what it is written in") from error
    return Columns(values, _assumed(content, known, given is None))


def _assumed(content: bytes, encoding: str, is_guess: bool) -> list[str]:
    if is_guess and encoding != "utf-8":
        return [f"is not UTF-8: it was read as {NAMES[encoding]} (`data.encoding` names another encoding)"]
    if not is_guess and reads_utf8_as(content, encoding):
        return [f"looks like UTF-8 and was read as {encoding} (data.encoding): letters beyond ASCII became others"]
    return []


def _unpacked(content: bytes) -> bytes:
    try:
        with unpacked(io.BytesIO(content)) as file:
            plain = file.read(LARGEST + 1)
    except NotOneFile as error:
        raise NoTable(f"is {error}. {WANTED}") from error
    except BROKEN as error:
        raise NoTable(f"is {describe(content[:HEAD])} that can't be unpacked ({error}): write it again") from error
    if len(plain) > LARGEST:
        raise NoTable(f"has more than {LARGEST >> 30} GiB unpacked: divide the source")
    return plain


def _parquet(content: bytes, choose: Choose) -> list[pa.ChunkedArray]:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        places = choose(file.schema_arrow.names)
        table = _read(file, places)
    except (*UNREADABLE, OSError) as error:
        raise NoTable(f"is a Parquet file that can't be read ({_first_line(error)}): write it again") from error
    columns = []
    for place in places:
        field = file.schema_arrow.field(place)
        try:
            columns.append(_names(table[field.name]))
        except NoName as error:
            raise NoTable(f"has a column {field.name!r} that holds no text: a value {error}") from error
    return columns


def _names(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of a column as strings. Text stays as it is: `names_of` would take longer than reading it."""
    if not pa.types.is_string(column.type):
        return pa.chunked_array([names_of(column)], pa.string())
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise NoName("is not UTF-8") from error
    return column


def _read(file: pq.ParquetFile, places: list[int]) -> pa.Table:
    return file.read(columns=list(dict.fromkeys(file.schema_arrow.field(place).name for place in places)))


def _of_text(content: bytes, name: str, encoding: str, *, expected: list[str], choose: Choose) -> list[pa.ChunkedArray]:
    begins = content[:HEAD].decode(encoding, "ignore")
    named = name.lower().endswith((".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz"))
    try:
        if named or JSON.match(begins):
            return read_json_rows(content, encoding, choose)
        return read_delimited(content, encoding, expected, choose=choose)
    except UnicodeError:
        raise
    except (NoColumn, ValueError) as error:
        what = describe(content[:HEAD])
        if what.endswith(BINARY):  # many a text begins with signatures such as `BM` and `ID3`
            what = describe(b" " + content[:HEAD])
        if not what.startswith(("text", "blank", "nothing")):
            raise NoTable(f"is {what}. {WANTED}") from error
        if name.lower().endswith((".parquet", ".pq")):
            raise NoTable(f"is no Parquet file, but {what}. {WANTED}") from error
        if isinstance(error, NoColumn):
            raise
        raise NoTable(f"can't be read: {error}") from error


def _undecodable(content: bytes, encoding: str) -> str:
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return f"line {content.count(10, 0, error.start) + 1}"
    except UnicodeError as error:
        return _first_line(error)
    return "its end"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
