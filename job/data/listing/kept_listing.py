"""What a listing that takes minutes keeps in the store: where it ends early, the next one goes on from there. It saves
time, and is worth no error.

listings/<digest of the source>/<token>.json           KeptListing: the ranges, and the files of each
listings/<digest of the source>/<token>/<number>       objects of a part of a range, in Arrow's file format
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from job.config.own_rayjob import own_rayjob
from job.data.listing.spooled import Spool
from job.errors import BrokenDocument, StorageError
from job.storage import ObjectInfo, Store
from job.storage.documents import read_document, write_document

AFTER = 60.0
"""Seconds that a listing takes before anything is kept."""
LATEST = 3600.0
"""Seconds since the last write after which a listing is made anew."""
ALIVE = 60.0
"""Seconds since the last write in which the process of another machine may still be at it."""
STALE = 86_400.0
"""Seconds since the last write after which what was kept is deleted."""


@dataclass
class KeyRange:
    """The objects whose keys come `after` and `before` these (empty: the end)."""

    after: str
    before: str
    parts: list[str] = field(default_factory=list)
    """The keys of its files in the store."""
    last: str = ""
    """The last key in those files; empty where there is none."""
    objects: int = 0
    """Objects in those files."""
    complete: bool = False
    """Whether those files have all objects of this range."""


@dataclass(frozen=True)
class KeptListing:
    begun: float
    """When the first of its pages was listed, in seconds since 1970."""
    start: str
    """The ranges begin after this key; what comes before it is not kept."""
    ranges: list[KeyRange]
    folders: list[str] = field(default_factory=list)
    """Where those who listed parts of it have kept them."""
    host: str = ""
    pid: int = 0
    """The process that has written this."""


def find_kept(store: Store, source: Store) -> KeptListing | None:
    """The latest listing of the source that ended early, less than LATEST seconds ago; None where there is none. What
    is older than STALE is deleted.
    """
    with suppress(StorageError):
        listed, now = list(store.list(_folder(source))), time.time()
        _delete(store, [info.key for info in listed if now - _written(info) > STALE])
        ended = [info for info in listed if info.key.endswith(".json") and now - _written(info) < LATEST]
        for info in sorted(ended, key=_written, reverse=True):
            with suppress(BrokenDocument):
                kept = read_document(store, info.key, KeptListing)
                if kept and kept.ranges and not _is_alive(kept, now - _written(info)):
                    return kept
    return None


def _is_alive(listing: KeptListing, seconds: float) -> bool:
    """Whether the process that wrote this so many seconds ago may still be at it."""
    if listing.host != socket.gethostname():
        return seconds < ALIVE
    try:
        os.kill(listing.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return listing.pid != os.getpid()


class Keeper:
    """Keeps the parts of a listing in the store once it takes long. Used by several threads."""

    def __init__(self, store: Store | None, source: Store, listing: KeptListing) -> None:
        self._store = store
        self._listing = replace(listing, host=socket.gethostname(), pid=os.getpid())
        self._folder = f"{_folder(source)}{uuid.uuid4().hex}/"
        self._begun, self._lock, self._fails = time.monotonic(), threading.Lock(), False
        self._parts: list[list[_Part]] = [[] for _ in listing.ranges]
        self._ends = [range.complete for range in listing.ranges]

    def add(self, place: int, spool: Spool, last: str, *, objects: int) -> None:
        """Adds a file of the range at this place."""
        self._parts[place].append(_Part(spool, last, objects))
        self._keep()

    def end(self, place: int) -> None:
        """The range at this place has no more files."""
        self._ends[place] = True
        self._keep()

    def forget(self) -> None:
        """The listing has ended: what is kept of it is of no more use."""
        if (store := self._store) is None:
            return
        for folder in self._listing.folders:
            with suppress(StorageError):
                write_document(store, _document(folder), KeptListing(0.0, "", []))  # not everybody may delete it
                _delete(store, [_document(folder), *(info.key for info in store.list(folder))])

    def _keep(self) -> None:
        """Writes what is not kept so far, and the document last. Where another thread does so, that is enough."""
        store = self._store
        if store is None or time.monotonic() - self._begun < AFTER or not self._lock.acquire(blocking=False):
            return
        try:
            if not self._fails:
                self._write(store)
        except StorageError:
            self._fails = True
        finally:
            self._lock.release()

    def _write(self, store: Store) -> None:
        if self._folder not in self._listing.folders:
            self._listing.folders.append(self._folder)
        for place, range in enumerate(self._listing.ranges):
            ended, parts = self._ends[place], self._parts[place]
            while parts:
                key = f"{self._folder}{uuid.uuid4().hex}"
                store.upload(key, parts[0].spool.path)
                part = parts.pop(0)
                range.parts.append(key)
                range.last, range.objects = part.last, range.objects + part.objects
            range.complete = ended
        write_document(store, _document(self._folder), self._listing)


class _Part(NamedTuple):
    spool: Spool
    last: str
    objects: int


def _delete(store: Store, keys: list[str]) -> None:
    with suppress(StorageError):
        for key in keys:
            store.delete(key)


def _folder(source: Store) -> str:
    """The folder of the source's listings. Each RayJob has its own, which only its attempts share: a RayJob that was
    started since is there because data arrived, and a listing of before would lack it.
    """
    meaning = [source.uri, own_rayjob() or None]
    return f"listings/{hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]}/"


def _document(folder: str) -> str:
    return f"{folder[:-1]}.json"


def _written(info: ObjectInfo) -> float:
    return info.modified or 0.0
