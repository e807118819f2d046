"""CSV as spreadsheets and programs write it: any of four delimiters, quoted line breaks, one header."""

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
"""Characters in which the header is looked for."""
SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""A first line of Excel's that names the delimiter."""
LINE_END = re.compile(r"\r\n|\r|\n")


def read_delimited(
    content: bytes, encoding: str, wanted: list[str], choose: Callable[[list[str]], list[int]]
) -> list[pa.ChunkedArray]:
    """The columns of strings that `choose` takes of the header's names. Of the delimiters, the one counts by which the
    header has most of the `wanted` names. Raises ValueError naming the line, also UnicodeDecodeError.
    """
    csv.field_size_limit(sys.maxsize)
    rows = _rows(content, encoding, wanted)
    _, header, _ = next(rows, (0, [], []))
    try:
        places = choose(header)
    except NoColumn as error:
        if any(place_of(name, header) is not None for name in wanted):
            raise
        raise NoColumn(f"{error} The first row has to name the columns.") from error
    width, columns, doubtful = len(header), TextColumns(len(places)), list[tuple[int, list[list[str]]]]()
    for block in in_blocks(rows):
        for number, row, inside in block:
            if inside:
                doubtful.append((number, [[one[place] for one in inside] for place in places]))
            if len(row) != width and (len(row) < width or any(row[width:])):
                raise ValueError(
                    f"line {number} has {len(row)} cells, and the header {width}: a cell with a delimiter or a line "
                    "break in it is put in double quotes"
                )
        columns.add([row[place] for _, row, _ in block] for place in places)
    found = columns.joined()
    if (line := _swallowed(doubtful, found)) is not None:
        raise ValueError(
            f"line {line}: a quoted cell ends here whose lines would be rows of their own: a double quote that is part "
            "of a text is written twice, and its cell in double quotes"
        )
    return found


def _swallowed(doubtful: list[tuple[int, list[list[str]]]], columns: list[pa.ChunkedArray]) -> int | None:
    """The first of these rows whose lines have values of one of the columns in its place, as labels are; each with the
    number of its last line, and the values [column][line].
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


def _rows(content: bytes, encoding: str, wanted: list[str]) -> Iterator[tuple[int, list[str], list[list[str]]]]:
    """Each row with the number of its last line, and where all of its lines would be rows if its quotes were text,
    these; first the header. Without rows that are blank, also `,,` as spreadsheets leave them.
    """
    lines = io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    sample = lines.read(SAMPLE).removeprefix("\ufeff")
    named = SEPARATOR.match(sample)
    delimiter = named[1] if named else _delimiter(sample, wanted)
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
    """Without a byte order mark that the encoding leaves in."""
    for line in lines:
        yield line.removeprefix("\ufeff")
        break
    yield from lines


def _delimiter(sample: str, wanted: list[str]) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        header = _header(sample, delimiter)
        return sum(place_of(name, header) is not None for name in wanted), len(header)

    return max(DELIMITERS, key=fit)


def _header(sample: str, delimiter: str) -> list[str]:
    try:
        return next(filter(any, csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)), [])
    except csv.Error:
        return []
