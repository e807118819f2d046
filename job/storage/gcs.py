"""The store of gs:// URIs, with google-cloud-storage."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as google
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from job.config import Storage
from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import DEFAULTS, ObjectInfo, Skipped
from job.storage.filesystem import half_file
from job.storage.gcs_get import FAILURES, ask_shortly, check_crc, crc_of_file
from job.storage.objects import CONNECTIONS, FOLDER_PAGES, PAGE, Objects, below, between, one_by_one
from job.storage.shortcut import Shortcut
from job.wording import sentence

if TYPE_CHECKING:
    import pyarrow.fs

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds of retries of a request after responses such as 503, broken connections and bodies, and timeouts."""
PATIENCE_UNREACHABLE = 30.0
"""Seconds of retries where no connection can be made."""
LONGEST_PAUSE = 5.0
RETRIES = 30
"""The most retries of a request, also where each try fails so late that it counts as a new outage."""
TIMEOUT = (5, 30)
"""Seconds to wait for a connection, and for data on it."""
BODY_ATTEMPTS = 6
PAUSE = 0.4
"""The longest pause, in seconds, before a corrupted body is requested again; doubled each time."""
DENIED = "check the credentials (GOOGLE_APPLICATION_CREDENTIALS or the pod's identity) and their role on the bucket"


class GcsStore:
    def __init__(self, bucket: str, prefix: str, access: Storage = DEFAULTS) -> None:
        self.bucket, self.prefix, self.access = bucket, prefix, access
        self.uri = f"gs://{bucket}/{prefix}"
        self._lock, self._opened, self._shortcut = threading.Lock(), None, Shortcut()

    def __reduce__(self) -> tuple[type[GcsStore], tuple[str, str, Storage]]:
        return GcsStore, (self.bucket, self.prefix, self.access)

    @property
    def _bucket(self) -> storage.Bucket:
        with self._lock:
            if self._opened is None:
                emulated = os.environ.get("STORAGE_EMULATOR_HOST")
                credentials = AnonymousCredentials() if emulated else None
                # Objects need no project; without this the client insists on finding one.
                client = storage.Client(project=None, credentials=credentials)
                if not getattr(client._http, "is_mtls", False):  # by default, ten connections are kept open
                    for scheme in ("https://", "http://"):
                        client._http.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
                self._opened = client.bucket(self.bucket, user_project=self.access.billing_project)
            return self._opened

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        return one_by_one(self.pages(prefix))

    def pages(
        self, prefix: str = "", *, after: str = "", before: str = "", skipped: Skipped | None = None
    ) -> Iterator[Objects]:
        with self._translated("list", prefix):
            blobs = self._bucket.client.list_blobs(
                self._bucket,
                prefix=self.prefix + prefix,
                start_offset=self.prefix + after if after else None,
                end_offset=self.prefix + before if before else None,
                page_size=PAGE,
                fields="items(name,size,generation,updated),nextPageToken",
                retry=_retried,
                timeout=TIMEOUT,
            )
            for answer in blobs.pages:
                page = between(below(_objects(answer.raw_page.get("items", ())), self.prefix), after, before)
                if page.keys:
                    yield page

    def folders(self, prefix: str = "", *, after: str = "") -> Sequence[str]:
        with self._translated("list", prefix):
            blobs = self._bucket.client.list_blobs(
                self._bucket,
                prefix=self.prefix + prefix,
                start_offset=self.prefix + after if after else None,
                delimiter="/",
                fields="prefixes,nextPageToken",
                retry=_retried,
                timeout=TIMEOUT,
            )
            pages = islice(blobs.pages, FOLDER_PAGES)
            found = [folder for page in pages for folder in page.raw_page.get("prefixes", ())]
        return [folder[len(self.prefix) :] for folder in found]

    def stat(self, key: str) -> ObjectInfo | None:
        with self._translated("look at", key):
            blob = self._bucket.get_blob(self.prefix + key, retry=_retried, timeout=TIMEOUT)
        return _info(key, blob) if blob else None

    def read(self, key: str, version: str | None = None) -> bytes:
        def ask() -> bytes:
            content = blob.download_as_bytes(retry=_retried, timeout=TIMEOUT)
            check_crc(blob, lambda: google_crc32c.Checksum(content))
            return content

        with self._translated("read", key):
            blob = self._blob(key, int(version) if version else None)
            return self._shortcut.read(lambda: ask_shortly(blob, TIMEOUT), lambda: _unchanged(ask))

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        return self.read_range(key, 0, count, version=version)

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        with self._translated("read", key):
            blob = self._blob(key, int(version) if version else None)
            end = start + count - 1
            try:
                return self._shortcut.read(
                    lambda: ask_shortly(blob, TIMEOUT, f"bytes={start}-{end}"),
                    lambda: blob.download_as_bytes(start=start, end=end, retry=_retried, timeout=TIMEOUT),
                )
            except google.RequestRangeNotSatisfiable:  # an empty object has no first byte
                return b""

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, data)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        return self._put(key, data, if_generation_match=int(version) if version else 0)

    def delete(self, key: str) -> None:
        try:
            with self._translated("delete", key):
                self._blob(key).delete(retry=_retried, timeout=TIMEOUT)
        except ObjectMissing:
            return

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        pass

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_filename(path, retry=_retried, timeout=TIMEOUT)
            return str(blob.generation)

    def download(self, key: str, path: str) -> None:
        def ask() -> None:
            blob = self._blob(key)
            blob.download_to_filename(half, retry=_retried, timeout=TIMEOUT)
            check_crc(blob, lambda: crc_of_file(half))

        with self._translated("read", key), half_file(path) as half:
            _unchanged(ask)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from job.storage.arrow import as_filesystem

        return as_filesystem(self)

    def _blob(self, key: str, generation: int | None = None) -> storage.Blob:
        key.encode()  # the library would send half a surrogate pair as it is
        return self._bucket.blob(self.prefix + key, generation=generation)

    def _put(self, key: str, data: bytes, **condition: Any) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_string(data, "application/octet-stream", retry=_retried, timeout=TIMEOUT, **condition)
            return str(blob.generation)

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}{key}"
        try:
            yield
        except google.NotFound as error:
            raise ObjectMissing(
                f"{where} does not exist: check the name, and that there is a bucket {self.bucket!r}."
            ) from error
        except (google.PreconditionFailed, google.Conflict) as error:
            raise WriteConflict(f"{where} was written by someone else: read it again before writing.") from error
        except DataCorruption as error:
            raise StorageError(
                f"{where}: could not {action} it, after retries: its bytes arrive changed: check the proxies on the "
                f"way, or write it again. ({_one_line(error)})"
            ) from error
        except FAILURES as error:
            if "requester pays" in str(error):
                raise AccessDenied(
                    f"{where}: not allowed to {action} it: the bucket's readers pay: set storage.billing_project."
                ) from error
            if getattr(error, "code", None) in (401, 403):
                raise AccessDenied(f"{where}: not allowed to {action} it: {DENIED}.") from error
            if not DEFAULT_RETRY._predicate(error):
                raise StorageError(f"{where}: could not {action} it: {sentence(_one_line(error))}") from error
            raise StorageError(
                f"{where}: could not {action} it, after retries: check the network, and run it again later. "
                f"({_one_line(error)})"
            ) from error
        except GoogleAuthError as error:
            raise AccessDenied(f"{where}: no credentials to {action} it: {DENIED}. ({_one_line(error)})") from error
        except (OSError, UnicodeError) as error:
            raise StorageError(f"{where!r}: could not {action} it: {sentence(_one_line(error))}") from error


def _retried(request: Callable[[], T]) -> Callable[[], T]:
    """The request with the library's retries and random pauses. The time limit starts with the first failure.

    Writes are retried as well, which the library itself does only under a condition: writing the same bytes twice is
    harmless.
    """
    return Retry(predicate=_Patience(), initial=0.5, maximum=LONGEST_PAUSE, multiplier=2.0, timeout=None)(request)


class _Patience:
    """Decides whether an error is worth another try. A long download may break off now and then, and go on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._errors, self._began, self._latest = 0, 0.0, 0.0

    def __call__(self, error: Exception) -> bool:
        now = self._clock()
        if not self._errors or now - self._latest > sum(TIMEOUT) + LONGEST_PAUSE:
            self._began = now
        self._errors, self._latest = self._errors + 1, now
        patience = PATIENCE_UNREACHABLE if _is_unreachable(error) else PATIENCE
        return self._errors <= RETRIES and now - self._began < patience and DEFAULT_RETRY._predicate(error)


def _is_unreachable(error: Exception) -> bool:
    if isinstance(error, TransportError) and error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if isinstance(error, requests.ConnectionError) and error.args:
        return isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
    return isinstance(error, TransportError)


def _unchanged(ask: Callable[[], T]) -> T:
    """The result of `ask`, with retries after a wrong checksum, which the library does not do."""
    for attempt in range(1, BODY_ATTEMPTS):
        try:
            return ask()
        except DataCorruption:
            time.sleep(random.uniform(0, PAUSE * 2 ** (attempt - 1)))
    return ask()


def _objects(items: Iterable[dict[str, str]]) -> Objects:
    """The objects of a page, with their whole keys."""
    rows = [(item["name"], int(item["size"]), item["generation"], _seconds(item.get("updated"))) for item in items]
    return Objects(*map(list, zip(*rows, strict=True))) if rows else Objects([], [], [], [])


def _seconds(time: str | None) -> float | None:
    """A time as seconds since 1970."""
    return datetime.fromisoformat(time).timestamp() if time else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _info(key: str, blob: Any) -> ObjectInfo:
    return ObjectInfo(key, blob.size, str(blob.generation), blob.updated.timestamp() if blob.updated else None)
