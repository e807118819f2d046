"""gs://, with google-cloud-storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
from google.api_core import exceptions as google
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo

if TYPE_CHECKING:
    import pyarrow.fs

RETRY: Retry = DEFAULT_RETRY.with_deadline(20.0)
"""Writes are retried, too: writing the same bytes twice is the same as once."""
TIMEOUT = (5, 60)


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
                emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
                options = {"credentials": AnonymousCredentials(), "project": "emulated"} if emulated else {}
                self._made = storage.Client(**options).bucket(self.bucket)
            return self._made

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._translated("list", prefix):
            blobs = self._bucket.client.list_blobs(
                self._bucket,
                prefix=self.prefix + prefix,
                fields="items(name,size,generation),nextPageToken",
                retry=RETRY,
                timeout=TIMEOUT,
            )
            for blob in blobs:
                if not blob.name.endswith("/"):
                    yield ObjectInfo(blob.name[len(self.prefix) :], blob.size, str(blob.generation))

    def stat(self, key: str) -> ObjectInfo | None:
        with self._translated("look at", key):
            blob = self._bucket.get_blob(self.prefix + key, retry=RETRY, timeout=TIMEOUT)
        return ObjectInfo(key, blob.size, str(blob.generation)) if blob else None

    def read(self, key: str) -> bytes:
        with self._translated("read", key):
            return self._blob(key).download_as_bytes(retry=RETRY, timeout=TIMEOUT)

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, data)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        return self._put(key, data, if_generation_match=int(version) if version else 0)

    def delete(self, key: str) -> None:
        try:
            with self._translated("delete", key):
                self._blob(key).delete(retry=RETRY, timeout=TIMEOUT)
        except ObjectMissing:
            return

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_filename(path, retry=RETRY, timeout=TIMEOUT)
            return str(blob.generation)

    def download(self, key: str, path: str) -> None:
        half = f"{path}.half"
        with self._translated("read", key):
            self._blob(key).download_to_filename(half, retry=RETRY, timeout=TIMEOUT)
            os.replace(half, path)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import GcsFileSystem

        host = os.environ.get("STORAGE_EMULATOR_HOST")
        path = f"{self.bucket}/{self.prefix}".rstrip("/")
        if not host:
            return GcsFileSystem(), path
        scheme, separator, address = host.partition("://")
        scheme, address = (scheme, address) if separator else ("http", host)
        return GcsFileSystem(anonymous=True, scheme=scheme, endpoint_override=address.rstrip("/")), path

    def _blob(self, key: str) -> storage.Blob:
        return self._bucket.blob(self.prefix + key)

    def _put(self, key: str, data: bytes, **condition: Any) -> str:
        with self._translated("write", key):
            blob = self._blob(key)
            blob.upload_from_string(data, "application/octet-stream", retry=RETRY, timeout=TIMEOUT, **condition)
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
        except (google.Forbidden, google.Unauthorized, GoogleAuthError) as error:
            raise AccessDenied(f"{where}: not allowed to {action} it: check the credentials and the role.") from error
        except (google.PreconditionFailed, google.Conflict) as error:
            raise WriteConflict(f"{where} was written by someone else: read it again before writing.") from error
        except (google.GoogleAPIError, requests.RequestException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"{where}: could not {action} it, after retries: {reason}") from error
