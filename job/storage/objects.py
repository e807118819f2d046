"""Listed objects, a page at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import compress, islice
from typing import NamedTuple

from job.storage import ObjectInfo

CONNECTIONS = 128
"""The most connections of a client that are kept open: as many as there are threads that read at a time."""
FOLDER_PAGES = 10
"""The most requests for the folders of a folder."""
PAGE = 1000
"""The most objects of a page."""


class Objects(NamedTuple):
    """Listed objects by ascending UTF-8 bytes of their keys, in columns of equal length (see ObjectInfo). Millions of
    objects are handled a column at a time.
    """

    keys: list[str]
    sizes: list[int]
    versions: list[str]
    modified: list[float | None]


def one_by_one(pages: Iterable[Objects]) -> Iterator[ObjectInfo]:
    for page in pages:
        yield from map(ObjectInfo, *page)


def in_pages(objects: Iterable[ObjectInfo], after: str = "", before: str = "") -> Iterator[Objects]:
    """Pages of the objects whose keys come `after` and `before` these (empty: all)."""
    objects = iter(objects)
    while listed := list(islice(objects, PAGE)):
        page = between(Objects._make(map(list, zip(*listed, strict=True))), after, before)
        if page.keys:
            yield page


def below(page: Objects, root: str) -> Objects:
    """The objects of a page with keys relative to the root, without directory markers."""
    kept = [not key.endswith("/") for key in page.keys]
    if not all(kept):
        page = Objects._make(list(compress(column, kept)) for column in page)
    start = len(root)
    return page._replace(keys=[key[start:] for key in page.keys])


def between(page: Objects, after: str, before: str) -> Objects:
    """The objects of a page whose keys come `after` and `before` these (empty: all)."""
    start = bisect_right(page.keys, after) if after else 0
    end = bisect_left(page.keys, before) if before else len(page.keys)
    return Objects._make(column[start:end] for column in page) if end - start < len(page.keys) else page


def without(page: Objects, key: str) -> Objects:
    """The objects of a page but for the one with this key, if it is there."""
    place = bisect_left(page.keys, key)
    there = place < len(page.keys) and page.keys[place] == key
    return Objects._make([*column[:place], *column[place + 1 :]] for column in page) if there else page
