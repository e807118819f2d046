"""Builds columns of strings from rows, a block at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

import pyarrow as pa

ROWS = 65_536
"""Rows that are Python's at a time."""
Row = TypeVar("Row")


def in_blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while block := list(islice(rest, ROWS)):
        yield block


class TextColumns:
    def __init__(self, count: int) -> None:
        self._parts = list[list[pa.Array]]([] for _ in range(count))

    def add(self, columns: Iterable[Iterable[str | None]]) -> None:
        for part, column in zip(self._parts, columns, strict=True):
            array = pa.array(column, pa.string())
            # Arrow makes chunks of more than 2 GiB.
            part += array.chunks if isinstance(array, pa.ChunkedArray) else [array]

    def joined(self) -> list[pa.ChunkedArray]:
        return [pa.chunked_array(part, pa.string()) for part in self._parts]
