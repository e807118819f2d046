"""Object storage behind one small seam: s3://, gs:// and file://.

The only room that imports boto3 or google-cloud-storage. Endpoints and credentials are those of the SDKs' own
environment variables (AWS_ENDPOINT_URL, AWS_REGION, …; STORAGE_EMULATOR_HOST, GOOGLE_APPLICATION_CREDENTIALS, …).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from job.errors import JobError

if TYPE_CHECKING:
    import pyarrow.fs


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    """Relative to the store's root."""
    size: int
    """Bytes."""
    version: str
    """Changes when the object does: S3's ETag, GCS's generation, a file's modification time and size."""


class Store(Protocol):
    """A "folder" of objects. Errors are those of `job.errors`: ObjectMissing, AccessDenied, StorageError."""

    uri: str
    """Ends with a slash."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects by ascending UTF-8 bytes of their keys, page by page; without directory markers (`…/`)."""

    def stat(self, key: str) -> ObjectInfo | None: ...

    def read(self, key: str) -> bytes: ...

    def write(self, key: str, data: bytes) -> str:
        """Writes all or nothing, and returns the new version."""

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        """Writes only over this version (None: only a new object); otherwise raises WriteConflict."""

    def delete(self, key: str) -> None:
        """No error where it is gone already."""

    def upload(self, key: str, path: str) -> str: ...

    def download(self, key: str, path: str) -> None:
        """Never leaves half a file at `path`."""

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """A filesystem for Arrow and Ray, and the path of the root in it."""


def open_store(uri: str) -> Store:
    """The store whose root is the folder `uri`. No traffic yet."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "file":
        from job.storage.local import LocalStore

        return LocalStore(rest)
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    if separator and scheme == "s3":
        from job.storage.s3 import S3Store

        return S3Store(bucket, prefix)
    if separator and scheme == "gs":
        from job.storage.gcs import GcsStore

        return GcsStore(bucket, prefix)
    raise JobError(f"{uri!r} is no storage URI: it must begin with s3://, gs:// or file://.")


def split_uri(uri: str) -> tuple[str, str]:
    """The root and the key of an object's URI: `s3://b/dir/name` -> (`s3://b/dir/`, `name`)."""
    root, _, name = uri.rpartition("/")
    return root + "/", name
