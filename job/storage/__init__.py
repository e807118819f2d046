"""Object storage behind one small seam: s3://, gs:// and file://.

The only room that imports boto3 or google-cloud-storage, which alone ask buckets: endpoints, credentials and proxies
are those of their environment variables and files (AWS_PROFILE, ~/.aws/config; GOOGLE_APPLICATION_CREDENTIALS, …).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from job.config import Storage
from job.errors import JobError, ObjectMissing, StorageError

if TYPE_CHECKING:
    import pyarrow.fs

DEFAULTS = Storage()
TRIES = 20
"""Times that an object which others write meanwhile is read, or that its change is tried."""
Skipped = list[str]
"""Keys of links that a listing has not followed."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    """Relative to the store's root."""
    size: int
    """Bytes."""
    version: str
    """Changes when the object does: S3's ETag, GCS's generation, a file's modification time and size."""
    modified: float | None = field(default=None, compare=False)
    """When it was last written, in seconds since 1970; None where that is not known."""


class Store(Protocol):
    """A "folder" of objects. Errors are those of `job.errors`: ObjectMissing, AccessDenied, StorageError.

    A store can be pickled, and used by several threads.
    """

    uri: str
    """Ends with a slash."""
    access: Storage
    """How it is asked."""

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        """Objects by ascending UTF-8 bytes of their keys, page by page; without directory markers (`…/`).

        In a folder of this machine, links are followed where they stay below the root, or where the store was opened
        with `follow_links`. Those that are not, that lead nowhere or round in a circle, are appended to `skipped`.
        """

    def stat(self, key: str) -> ObjectInfo | None: ...

    def read(self, key: str, version: str | None = None) -> bytes:
        """All of the object's bytes, never fewer. Raises ObjectMissing, also where this version of it is gone."""

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        """The object's first `count` bytes (1 or more), or all of it where it has fewer; no checksum covers them."""

    def write(self, key: str, data: bytes) -> str:
        """Writes all or nothing, and returns the new version."""

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        """Writes only over this version (None: only a new object); otherwise raises WriteConflict.

        Where the network lost the answer to a write that took place, its retry is refused too: read, then decide.
        """

    def delete(self, key: str) -> None:
        """No error where it is gone already."""

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        """Deletes what writers that died left half written below the prefix, if it is older than that.

        It is in no listing, but it takes up space. GCS does so by itself, after a week.
        """

    def upload(self, key: str, path: str) -> str:
        """Streams a file of this machine into the store, and returns the new version."""

    def download(self, key: str, path: str) -> None:
        """Never leaves half a file at `path`."""

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """A filesystem from which Arrow and Ray read, by this store's own client, and the path of the root in it."""


def open_store(uri: str, access: Storage = DEFAULTS, follow_links: bool = False) -> Store:
    """The store whose root is the folder `uri`. No traffic yet. Raises JobError for what is no storage URI.

    `follow_links`: in a folder of this machine, also links that lead out of it.

    The rest of the URI is taken as it is: `%20` is three characters, and `s3://b/a//` is not `s3://b/a/`.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("s3", "gs", "file"):
        raise JobError(f"{uri!r} is no storage URI: it must begin with s3://, gs:// or file://.")
    if scheme == "file":
        from job.storage.filesystem import LocalStore

        if not rest.startswith("/") or "\0" in rest:
            raise JobError(f"{uri!r}: a file URI has an absolute path, for example file:///folder/.")
        return LocalStore(rest, follow_links)
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise JobError(f"{uri!r} names no bucket: write {scheme}://bucket/folder/.")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if scheme == "s3":
        from job.storage.s3 import S3Store

        return S3Store(bucket, prefix, access)
    from job.storage.gcs import GcsStore

    return GcsStore(bucket, prefix, access)


def split_uri(uri: str) -> tuple[str, str]:
    """The root and the key of an object's URI: `s3://b/dir/name` -> (`s3://b/dir/`, `name`). Raises JobError."""
    scheme, _, rest = uri.partition("://")
    folder, slash, name = rest.rpartition("/")
    if not slash or not name:
        raise JobError(f"{uri!r} names no object: write {scheme}://…/folder/name.")
    return f"{scheme}://{folder}/", name


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file of this machine, in hex."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_json(store: Store, key: str) -> Any | None:
    """What the object says; None where it is missing. Raises StorageError where it is no JSON."""
    try:
        content = store.read(key)
    except ObjectMissing:
        return None
    try:
        return json.loads(content)
    except ValueError as error:  # also what is not UTF-8
        raise StorageError(f"{store.uri}{key} is no JSON ({error}): delete it, and run again.") from error


def read_version(store: Store, key: str) -> tuple[bytes, str] | None:
    """The content and the version of an object that others change meanwhile; None where it is missing. Raises
    StorageError.
    """
    for _ in range(TRIES):
        info = store.stat(key)
        if info is None:
            return None
        with suppress(ObjectMissing):  # written since
            return store.read(key, info.version), info.version
    raise StorageError(f"{store.uri}{key} could not be read in {TRIES} tries: others write it all the time.")


@contextmanager
def arrow_errors(uri: str) -> Iterator[None]:
    """Arrow's errors, and those of this machine's files, as ours. A bucket's are ours already, after its retries."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"{uri} was deleted in the meantime: run again.") from error
    except OSError as error:
        raise StorageError(f"{uri}: could not read it, after retries: {error}") from error


@contextmanager
def table_errors(uri: str) -> Iterator[None]:
    """`arrow_errors` for a table that Thaw itself has written, and can write again: also where it is none any more."""
    from pyarrow import ArrowInvalid

    try:
        with arrow_errors(uri):
            yield
    except ArrowInvalid as error:
        raise StorageError(f"{uri} is not what was written ({error}): delete it and run again.") from error
