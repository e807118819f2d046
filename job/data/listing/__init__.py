"""The objects of a source: listed, or as its inventory has them."""

from __future__ import annotations

from collections.abc import Iterator

from job.config import Data
from job.data.caution import Note
from job.data.listing.inventory import inventory_pages
from job.data.listing.ranges import list_source
from job.storage import Skipped, Store
from job.storage.objects import Objects


def source_pages(
    data: Data,
    source: Store,
    *,
    skipped: Skipped | None = None,
    keep: Store | None = None,
    note: Note = lambda _: None,
) -> Iterator[Objects]:
    """Every object below the source by ascending UTF-8 bytes of its key. Raises DataError for an inventory that is none
    of the source, and StorageError.

    `skipped` gets the keys of links that were not followed. A long listing is kept in the store `keep` until it has
    ended. Assumptions go to `note`.
    """
    if data.inventory is not None:
        return inventory_pages(data, source, note)
    return list_source(source, skipped=skipped, keep=keep, note=note)
