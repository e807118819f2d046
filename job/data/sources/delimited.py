"""Reads CSV as spreadsheets and programs write it: any of four delimiters, quoted line breaks, one header."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from job.data.sources.headings import NoColumn, place_of
from job.data.sources.textcolumns import TextColumns, in_blocks

DELIMITERS = ",;\t|"
SAMPLE = 65_536
"""Characters at the start of the file that are searched for the header."""
SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""The first line by which Excel names the delimiter."""
LINE_END = re.compile(r"\r\n|\r|\n")


def read_delimited(
    content: bytes, encoding: str, expected: list[str], *, choose: Callable[[list[str]], list[int]]
) -> list[pa.ChunkedArray]:
    """The columns of strings that `choose` takes of the header's names. The delimiter is the one by which the header
    has most of the `expected` names. Raises ValueError naming the line, and UnicodeDecodeError.
    """
    csv.field_size_limit(sys.maxsize)
    rows = _rows(content, encoding, expected)
    _, header, _ = next(rows, (0, [], []))
    try:
        places = choose(header)
    except NoColumn as error:
        if any(place_of(name, header) is not None for name in expected):
            raise
        raise NoColumn(f"{error} The first row has to name the columns.") from error
    width, columns, doubtful = len(header), TextColumns(len(places)), list[tuple[int, list[list[str]]]]()
    for block in in_blocks(rows):
        for number, row, inside in block:
            if inside:
                doubtful.append((number, [[cells[place] for cells in inside] for place in places]))
            if len(row) != width and (len(row) < width or any(row[width:])):
                raise ValueError(
                    f"line {number} has {len(row)} cells, and the header {width}: a cell with a delimiter or a line "
                    "break in it is put in double quotes"
                )
        columns.add([row[place] for _, row, _ in block] for place in places)
    values = columns.joined()
    if (line := _swallowed(doubtful, values)) is not None:
        raise ValueError(
            f"line {line}: a quoted cell ends here whose lines would be rows of their own: a double quote that is part "
            "of a text is written twice, and its cell in double quotes"
        )
    return values


def _swallowed(doubtful: list[tuple[int, list[list[str]]]], columns: list[pa.ChunkedArray]) -> int | None:
    """The number of the last line of the first doubtful row that has probably swallowed other rows; None without one.

    `doubtful` has for each row the number of its last line, and the values [column][line] that its lines would have as
    rows. A row has swallowed others where all those values of a column, such as the labels, are known in `columns`.
    """
    if not doubtful:
        return None
    starts = np.cumsum([0, *(len(values[0]) for _, values in doubtful)])[:-1]
    rows = np.zeros(len(doubtful), np.bool_)
    for place, column in enumerate(columns):
        values = pa.array((value for _, by_column in doubtful for value in by_column[place]), pa.string())
        known = pc.is_in(values, value_set=column).to_numpy(zero_copy_only=False)
        rows |= np.logical_and.reduceat(known, starts)
    return doubtful[int(rows.argmax())][0] if rows.any() else None


def _rows(content: bytes, encoding: str, expected: list[str]) -> Iterator[tuple[int, list[str], list[list[str]]]]:
    """Each row, first the header, with the number of its last line, and the rows that its lines would be if its quotes
    were text; none of these where some line would be no row. Blank rows are left out, also `,,` of spreadsheets.
    """
    lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    sample = lines.read(SAMPLE).removeprefix("\ufeff")
    named = SEPARATOR.match(sample)
    delimiter = named[1] if named else _delimiter(sample, expected)
    lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    spaced = f'{delimiter} "' in sample
    reader = csv.reader(_unmarked(lines), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    if named:
        next(reader)
    last, width, none = reader.line_num, 0, list[list[str]]()
    try:
        for row in reader:
            number = reader.line_num
            if any(row):
                width = width or len(row)
                yield number, row, none if number - last < 2 else _inside(row, delimiter, width)
            last = number
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num}: {error}: a double quote inside a quoted cell is written twice"
        ) from error


def _inside(row: list[str], delimiter: str, width: int) -> list[list[str]]:
    lines = LINE_END.split(delimiter.join(row))
    whole = len(lines) > 1 and all(line.count(delimiter) == width - 1 for line in lines)
    return [line.split(delimiter) for line in lines] if whole else []


def _unmarked(lines: io.TextIOWrapper) -> Iterator[str]:
    """The lines, without a byte order mark that the encoding leaves in."""
    for line in lines:
        yield line.removeprefix("\ufeff")
        break
    yield from lines


def _delimiter(sample: str, expected: list[str]) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        header = _header(sample, delimiter)
        return sum(place_of(name, header) is not None for name in expected), len(header)

    return max(DELIMITERS, key=fit)


def _header(sample: str, delimiter: str) -> list[str]:
    try:
        return next(filter(any, csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)), [])
    except csv.Error:
        return []
