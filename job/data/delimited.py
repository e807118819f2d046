"""CSV as spreadsheets and programs write it: any of four delimiters, quoted line breaks, one header."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Iterator

import pyarrow as pa

from job.data.headings import NoColumn, place_of
from job.data.textcolumns import TextColumns, in_blocks

DELIMITERS = ",;\t|"
SAMPLE = 65_536
"""Characters in which the header is looked for."""
SEPARATOR = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
"""A first line of Excel's that names the delimiter."""


def read_delimited(
    content: bytes, encoding: str, wanted: list[str], choose: Callable[[list[str]], list[int]]
) -> list[pa.ChunkedArray]:
    """The columns of strings that `choose` takes of the header's names. Of the delimiters, the one counts by which the
    header has most of the `wanted` names. Raises ValueError naming the line, also UnicodeDecodeError.
    """
    csv.field_size_limit(sys.maxsize)
    rows = _rows(content, encoding, wanted)
    _, header = next(rows, (0, []))
    try:
        places = choose(header)
    except NoColumn as error:
        if any(place_of(name, header) is not None for name in wanted):
            raise
        raise NoColumn(f"{error} The first row has to name the columns.") from error
    width, columns = len(header), TextColumns(len(places))
    for block in in_blocks(rows):
        for number, row in block:
            if len(row) != width and (len(row) < width or any(row[width:])):
                raise ValueError(
                    f"line {number} has {len(row)} cells, and the header {width}: a cell with a delimiter or a line "
                    "break in it is put in double quotes"
                )
        columns.add([row[place] for _, row in block] for place in places)
    return columns.joined()


def _rows(content: bytes, encoding: str, wanted: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its last line, first the header; without those that are blank, also `,,` as
    spreadsheets leave them.
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
    try:
        for row in reader:
            if any(row):
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num}: {error}: a double quote inside a quoted cell is written twice"
        ) from error


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
