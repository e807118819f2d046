"""Reads tables in JSON: an object a line, a list of objects, or an object of columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pyarrow as pa

from job.data.sources.fields import NoJson, field_of, parse_json, paths_of
from job.data.sources.headings import NoColumn
from job.data.sources.label_values import name_of
from job.data.sources.textcolumns import TextColumns, in_blocks

FORMS = "a table in JSON is an object a line, a list of objects, or an object of columns"


def read_json_rows(content: bytes, encoding: str, choose: Callable[[list[str]], list[int]]) -> list[pa.ChunkedArray]:
    """The columns that `choose` takes of the field names of the first objects, as strings; null where a row lacks one.
    Raises ValueError naming the line or the row, and UnicodeDecodeError.
    """
    blocks = in_blocks(_objects(content, encoding))
    first = next(blocks, [])
    names = list(dict.fromkeys(chain.from_iterable(paths_of(row) for _, row in first)))
    try:
        chosen = [names[place] for place in choose(names)]
    except NoColumn as error:
        raise NoColumn(f"{error} {FORMS[0].upper()}{FORMS[1:]}.") from error
    columns = TextColumns(len(chosen))
    for block in chain([first], blocks):
        columns.add([_name(field_of(row, name), name, where) for where, row in block] for name in chosen)
    return columns.joined()


def _objects(content: bytes, encoding: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with the text that says where it is."""
    try:
        yield from _lines(content, encoding)
        return
    except _OneDocument:
        pass
    yield from _of_document(_parsed(content.decode(encoding).removeprefix("\ufeff"), "the file"))


class _OneDocument(Exception):
    """The first line is no row, so that the file is one JSON document."""


def _lines(content: bytes, encoding: str) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = False
    for number, line in enumerate(io.TextIOWrapper(io.BytesIO(content), encoding, newline="\n"), 1):
        text = line.removeprefix("\ufeff").strip()
        if not text:
            continue
        if not begun:
            begun = True
            try:
                row = _parsed(text, f"line {number}")
            except ValueError:
                raise _OneDocument from None
            if not isinstance(row, dict) or _is_columns(row):
                raise _OneDocument
        else:
            row = _parsed(text, f"line {number}")
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no object: {FORMS}")
        yield f"line {number}", row


def _of_document(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(document, list) and all(isinstance(row, dict) for row in document):
        yield from ((f"row {number}", row) for number, row in enumerate(document, 1))
    elif isinstance(document, dict) and _is_columns(document):
        yield from _of_columns(document)
    elif isinstance(document, dict):
        lists = [name for name, value in document.items() if isinstance(value, list)]
        within = f"; the list {lists[0]!r} in it may be what is meant: write it to a file of its own" if lists else ""
        raise ValueError(f"{FORMS}{within}")
    else:
        raise ValueError(f"{FORMS}, and this is none of them")


def _is_columns(document: dict[str, Any]) -> bool:
    values = list(document.values())
    return bool(values) and any(all(isinstance(value, kind) for value in values) for kind in (list, dict))


def _of_columns(columns: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of an object of columns. A column is a list, or an object of row numbers, as pandas writes it."""
    values = [list(column.values()) if isinstance(column, dict) else column for column in columns.values()]
    rows = [list(column) if isinstance(column, dict) else len(column) for column in columns.values()]
    if any(column_rows != rows[0] for column_rows in rows):
        raise ValueError(f"the columns do not have the same rows: {FORMS}")
    for number, row in enumerate(zip(*values, strict=True), 1):
        yield f"row {number}", dict(zip(columns, row, strict=True))


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except NoJson as error:
        raise ValueError(f"{where} is no JSON ({error})") from error


def _name(value: Any, column: str, where: str) -> str | None:
    try:
        return name_of(value)
    except ValueError as error:  # also a number of thousands of digits
        field = (
            f": name a field of it, such as {column}.{next(iter(value))}" if value and isinstance(value, dict) else ""
        )
        raise ValueError(f"the column {column!r} holds no text: a value {error} ({where}){field}") from error
