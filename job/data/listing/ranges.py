"""The objects of a source in the order of their keys, listed by several ranges of keys at a time.

A listing is a chain of requests, one after another, of which a bucket answers a few in a second. So one that is long is
divided: at its folders, or at theirs. Each range is listed to files of this machine, from which the whole listing is
put together; what memory holds does not grow with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice, pairwise, takewhile
from operator import lt
from queue import SimpleQueue
from threading import Event

import pyarrow as pa

from job.data.caution import Caution, Note
from job.data.listing.kept_listing import Keeper, KeptListing, KeyRange, find_kept
from job.data.listing.spooled import Spool
from job.errors import StorageError
from job.storage import Skipped, Store
from job.storage.objects import Objects, between
from job.storage.scratch import scratch

HEAD = 16
"""Pages that are listed before the rest is divided."""
AT_ONCE, AT_ONCE_QUICK, QUICK = 8, 2, 0.03
"""Ranges that are listed at a time; and where a page takes fewer seconds than QUICK, so that more would only wait for
each other.
"""
RANGES, DEEPEST = 32, 3
"""The most ranges, and the levels of folders that are looked at to find them."""
PART = 50
"""Pages of a file."""


def list_source(
    source: Store, *, skipped: Skipped | None = None, keep: Store | None = None, note: Note = lambda _: None
) -> Iterator[Objects]:
    """Every object below the source by ascending UTF-8 bytes of its key. Raises StorageError as the store does, and
    where it lists in another order.

    What takes minutes is kept in the store `keep` as it grows, until it has ended. A listing that was killed goes on
    where it was; then there is a `note`.
    """
    last = ""
    for page in _pages(source, skipped, keep, note=note):
        if not all(map(lt, [last, *page.keys], page.keys)):
            first, second = next(pair for pair in pairwise([last, *page.keys]) if pair[0] >= pair[1])
            raise StorageError(
                f"{source.uri} is not listed in the order of its keys: {second!r} comes after {first!r}, as in S3's "
                "directory buckets: copy the examples to a general purpose bucket."
            )
        last = page.keys[-1]
        yield page


def _pages(source: Store, skipped: Skipped | None, keep: Store | None, *, note: Note) -> Iterator[Objects]:
    begun, clock, pages, last = time.time(), time.monotonic(), source.pages(skipped=skipped), ""
    for number, page in enumerate(pages, 1):
        yield page
        last = page.keys[-1]
        if number == HEAD:
            break
    else:
        return
    if (folders := source.folders(after=last)) is None:
        yield from pages
        return
    at_once = AT_ONCE if time.monotonic() - clock > HEAD * QUICK else AT_ONCE_QUICK
    listing = find_kept(keep, source) if keep else None
    if listing is None:
        bounds = [last, *_bounds(source, folders, last), ""]
        listing = KeptListing(begun, last, [KeyRange(*ends) for ends in pairwise(bounds)])
    else:
        note(_resumed(source, listing))
        yield from source.pages(after=last, before=f"{listing.start}\0") if last < listing.start else ()
        last = max(last, listing.start)
    for page in _Division(source, listing, keep).pages(at_once):
        if (new := between(page, last, "")).keys:
            yield new
            last = new.keys[-1]


def _bounds(source: Store, folders: Sequence[str], after: str) -> list[str]:
    """Folders `after` this key that divide the source into at most RANGES ranges: those at its top, or deeper ones."""
    found, level = sorted(folders), folders
    for _ in range(DEEPEST - 1):
        if len(found) >= 2 * AT_ONCE:
            break
        level = [below for folder in level for below in source.folders(folder, after=after) or ()]
        found = sorted([*found, *level])
    found = [folder for folder in found if folder > after]
    return found[:: -(-len(found) // (RANGES - 1)) or 1]


def _resumed(source: Store, listing: KeptListing) -> Caution:
    objects = sum(kept.objects for kept in listing.ranges)
    begun = time.strftime("%Y-%m-%d %H:%M", time.gmtime(listing.begun))
    return Caution(
        "data.source",
        f"the listing of {source.uri} that began at {begun} UTC and ended early goes on: {objects:,} of its objects "
        "are not listed again, and what was written or deleted among them since then is left to the next run. (To list "
        "all again, delete listings/ of the store.)",
    )


class _Kept(Spool):
    """A file that a killed listing has left in the store."""

    def __init__(self, path: str, store: Store, key: str) -> None:
        super().__init__(path)
        self._store, self._key = store, key

    def pages(self) -> Iterator[Objects]:
        self._store.download(self._key, self.path)
        yield from super().pages()


class _Division:
    """The ranges of a listing: threads list them to files, which are read in their order."""

    def __init__(self, source: Store, listing: KeptListing, keep: Store | None) -> None:
        self._source, self._ranges, self._keep = source, listing.ranges, keep
        self._keeper = Keeper(keep, source, listing)
        self._queues = [SimpleQueue[Spool | None]() for _ in listing.ranges]
        self._stopped = Event()

    def pages(self, at_once: int) -> Iterator[Objects]:
        pool = ThreadPoolExecutor(at_once, "listing")
        with scratch() as folder:
            futures = [pool.submit(self._list, place, folder) for place in range(len(self._ranges))]
            try:
                for place, future in enumerate(futures):
                    yield from self._read(place)
                    future.result()
            finally:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
        self._keeper.forget()

    def _read(self, place: int) -> Iterator[Objects]:
        """The pages of the range at this place."""
        last = self._ranges[place].after
        for spool in iter(self._queues[place].get, None):
            try:
                for page in spool.pages():
                    yield page
                    last = page.keys[-1]
            except (StorageError, pa.ArrowException, OSError):
                if not isinstance(spool, _Kept):
                    raise
                yield from self._source.pages(after=last, before=self._ranges[place].before)
                return

    def _list(self, place: int, folder: str) -> None:
        """Lists what is missing of the range at this place to files, and puts them into its queue."""
        this, queue = self._ranges[place], self._queues[place]
        try:
            for number, key in enumerate(this.parts):
                assert self._keep is not None
                queue.put(_Kept(f"{folder}/{place}-kept-{number}", self._keep, key))
            if this.complete:
                return
            pages = self._source.pages(after=this.last or this.after, before=this.before)
            wanted = takewhile(lambda _: not self._stopped.is_set(), pages)
            for number in count():
                spool = Spool(f"{folder}/{place}-{number}")
                objects, last = spool.write(islice(wanted, PART))
                if not objects:
                    break
                queue.put(spool)
                if self._stopped.is_set():
                    return
                self._keeper.add(place, spool, last, objects=objects)
            if not self._stopped.is_set():
                self._keeper.end(place)
        finally:
            queue.put(None)
