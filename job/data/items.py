"""Listed items: what a listing, a label file, or the indexes of shards say of each object, row or record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import NamedTuple

ROWS = 4096
"""Items that are handled at a time, where they come one by one."""


class Listed(NamedTuple):
    """A listed object (a row of the label file, a record of a shard) with its label, or why it can't be used."""

    key: str
    size: int
    version: str
    label: str | None
    group: str | None = None
    reject: str | None = None
    split: str | None = None
    """The split that the label file, or a folder, gives; None where neither does."""
    modified: float | None = None
    """When the object was last written, in seconds since 1970."""
    left_out: str | None = None
    """The reason why the object is neither an example nor a reject; None for these."""


class Items(NamedTuple):
    """Columns of equal length: each has the values of Listed's field of the same name. Millions of items are handled a
    column at a time, which costs a fraction of what it costs one by one.
    """

    key: Sequence[str]
    size: Sequence[int]
    version: Sequence[str]
    label: Sequence[str | None]
    group: Sequence[str | None]
    reject: Sequence[str | None]
    split: Sequence[str | None]
    modified: Sequence[float | None]
    left_out: Sequence[str | None]

    def rows(self) -> Iterator[Listed]:
        return map(Listed, *self)

    def where(self, kept: Sequence[bool]) -> Items:
        """The items that are `kept`, a truth value for each."""
        return self if all(kept) else Items._make(list(compress(column, kept)) for column in self)


def in_columns(rows: Iterable[Listed]) -> Iterator[Items]:
    rows = iter(rows)
    while some := list(islice(rows, ROWS)):
        yield Items._make(zip(*some, strict=True))
