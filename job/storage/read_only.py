"""A read-only view of a store: writes go to a local folder, and are read from there."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from job.errors import ObjectMissing, WriteConflict
from job.storage import ObjectInfo, Skipped, Store
from job.storage.filesystem import LocalStore
from job.storage.objects import Objects, in_pages

if TYPE_CHECKING:
    import pyarrow.fs


class OverlayStore:
    """The store `below`, overlaid with the objects that were written to a local folder. `below` is never written."""

    def __init__(self, below: Store, folder: str) -> None:
        self.uri, self.access, self.folder = below.uri, below.access, folder
        self._below, self._above = below, LocalStore(folder)
        self._deleted: set[str] = set()

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        """Lists the objects of both. A store that does not exist yet has no objects."""
        before = ""
        both = heapq.merge(self._above.list(prefix), self._list_below(prefix), key=lambda info: info.key.encode())
        for info in both:  # for equal keys, the merge yields the object of the overlay first
            if info.key != before and info.key not in self._deleted:
                yield info
            before = info.key

    def pages(
        self, prefix: str = "", *, after: str = "", before: str = "", skipped: Skipped | None = None
    ) -> Iterator[Objects]:
        return in_pages(self.list(prefix, skipped), after, before)

    def folders(self, prefix: str = "", *, after: str = "") -> Sequence[str] | None:
        return None

    def stat(self, key: str) -> ObjectInfo | None:
        return None if key in self._deleted else self._above.stat(key) or self._below.stat(key)

    def read(self, key: str, version: str | None = None) -> bytes:
        return self._holder(key).read(key, version)

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        return self._holder(key).read_first(key, count, version)

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        return self._holder(key).read_range(key, start, count, version=version)

    def write(self, key: str, data: bytes) -> str:
        self._deleted.discard(key)
        return self._above.write(key, data)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        now = self.stat(key)
        if (now and now.version) != version:
            raise WriteConflict(f"{self.uri}{key} was written by someone else: read it again before writing.")
        return self.write(key, data)

    def delete(self, key: str) -> None:
        self._above.delete(key)
        self._deleted.add(key)

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        self._above.forget_unfinished(prefix, seconds)

    def upload(self, key: str, path: str) -> str:
        self._deleted.discard(key)
        return self._above.upload(key, path)

    def download(self, key: str, path: str) -> None:
        self._holder(key).download(key, path)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """Arrow's filesystem of the store below, without the objects of the overlay."""
        return self._below.arrow()

    def _list_below(self, prefix: str) -> Iterator[ObjectInfo]:
        try:
            yield from self._below.list(prefix)
        except ObjectMissing:
            return

    def _holder(self, key: str) -> Store:
        if key in self._deleted:
            raise ObjectMissing(f"{self.uri}{key} does not exist.")
        return self._above if self._above.stat(key) else self._below
