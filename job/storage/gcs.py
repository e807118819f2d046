"""gs://, with google-cloud-storage."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from google.api_core import exceptions as google
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo, arrow_path
from job.storage.local import half_file

if TYPE_CHECKING:
    import pyarrow.fs

PATIENCE = 60.0
"""Seconds of retries after answers such as 503 and bodies that break off."""
PATIENCE_UNREACHABLE = 12.0
"""Seconds of retries where there is no connection at all."""
TIMEOUT = (5, 60)
DENIED = "check the credentials (GOOGLE_APPLICATION_CREDENTIALS or the pod's identity) and their role on the bucket"
FAILURES = (
    google.GoogleAPIError,
    TransportError,
    InvalidResponse,
    DataCorruption,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
)


class GcsStore:
    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = f"gs://{bucket}/{prefix}"
        self._lock, self._made = threading.Lock(), None

    def __reduce__(self) -> tuple[type[GcsStore], tuple[str, str]]:
        return GcsStore, (self.bucket, self.prefix)

    @property
    def _bucket(self) -> storage.Bucket:
        with self._lock:
            if self._made is None:
                emulated = os.environ.get("STORAGE_EMULATOR_HOST")
                credentials = AnonymousCredentials() if emulated else None
                # Objects need no project; without this the client insists on finding one.
                self._made = storage.Client(project=None, credentials=credentials).bucket(self.bucket)
            return self._made

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._translated("list", prefix):
            blobs = self._bucket.client.list_blobs(
                self._bucket,
                prefix=self.prefix + prefix,
                fields="items(name,size,generation),nextPageToken",
                retry=_retry(),
                timeout=TIMEOUT,
            )
            for blob in blobs:
                if not blob.name.endswith("/"):
                    yield ObjectInfo(blob.name[len(self.prefix) :], blob.size, str(blob.generation))

    def stat(self, key: str) -> ObjectInfo | None:
        with self._translated("look at", key):
            blob = self._bucket.get_blob(self.prefix + key, retry=_retry(), timeout=TIMEOUT)
        return ObjectInfo(key, blob.size, str(blob.generation)) if blob else None

    def read(self, key: str, version: str | None = None) -> bytes:
        generation = int(version) if version else None
        with self._translated("read", key):
            return self._blob(key, generation).download_as_bytes(retry=_retry(), timeout=TIMEOUT)

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, data)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        return self._put(key, data, if_generation_match=int(version) if version else 0)

    def delete(self, key: str) -> None:
        try:
            with self._translated("delete", key):
                self._blob(key).delete(retry=_retry(), timeout=TIMEOUT)
        except ObjectMissing:
            return

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_filename(path, retry=_retry(), timeout=TIMEOUT)
            return str(blob.generation)

    def download(self, key: str, path: str) -> None:
        with self._translated("read", key), half_file(path) as half:
            self._blob(key).download_to_filename(half, retry=_retry(), timeout=TIMEOUT)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import GcsFileSystem

        path, limit = arrow_path(self.bucket, self.prefix), timedelta(seconds=PATIENCE)
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        if not emulator:
            return GcsFileSystem(retry_time_limit=limit), path
        scheme, _, host = emulator.rpartition("://")
        return GcsFileSystem(
            anonymous=True, scheme=scheme or "http", endpoint_override=host.rstrip("/"), retry_time_limit=limit
        ), path

    def _blob(self, key: str, generation: int | None = None) -> storage.Blob:
        key.encode()  # the library would send half a surrogate pair as it is
        return self._bucket.blob(self.prefix + key, generation=generation)

    def _put(self, key: str, data: bytes, **condition: Any) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_string(data, "application/octet-stream", retry=_retry(), timeout=TIMEOUT, **condition)
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
        except FAILURES as error:
            if getattr(error, "code", None) in (401, 403):
                raise AccessDenied(f"{where}: not allowed to {action} it: {DENIED}.") from error
            raise StorageError(f"{where}: could not {action} it, after retries: {_one_line(error)}") from error
        except GoogleAuthError as error:
            raise AccessDenied(f"{where}: no credentials to {action} it: {DENIED}. ({_one_line(error)})") from error
        except (OSError, UnicodeError) as error:
            raise StorageError(f"{where!r}: could not {action} it: {_one_line(error)}") from error


def _retry() -> Retry:
    """DEFAULT_RETRY with jitter and a deadline that is shorter where nobody answers.

    Given to writes as well, which the library retries only under a condition: writing the same bytes twice is the
    same as once.
    """
    started = time.monotonic()

    def worthwhile(error: Exception) -> bool:
        unreachable = isinstance(error, (requests.ConnectionError, TransportError))
        if unreachable and time.monotonic() - started > PATIENCE_UNREACHABLE:
            return False
        return DEFAULT_RETRY._predicate(error)

    return Retry(predicate=worthwhile, initial=0.5, maximum=5.0, multiplier=2.0, timeout=PATIENCE)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
