"""Object storage behind one small seam: s3://, gs:// and file://.

Only this room imports boto3 (for S3) and google-cloud-storage, and only these libraries access buckets. Endpoints,
credentials and proxies come from their environment variables and files (AWS_PROFILE, ~/.aws/config;
GOOGLE_APPLICATION_CREDENTIALS, …).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from job.config import Storage
from job.errors import JobError, ObjectMissing, StorageError
from job.wording import sentence

if TYPE_CHECKING:
    import pyarrow.fs

    from job.storage.objects import Objects

DEFAULTS = Storage()
TRIES = 20
"""The most attempts to read or change an object that others write at the same time."""
Skipped = list[str]
"""The keys of links that a listing did not follow."""


class ObjectInfo(NamedTuple):
    """An object; a tuple, since listings make millions of them. Two are equal whatever their times: a listing of S3 has
    milliseconds, the answer about one object has not.
    """

    key: str
    """The key, relative to the store's root."""
    size: int
    """The size in bytes."""
    version: str
    """A string that changes with the object: S3's ETag, GCS's generation, a file's modification time and size."""
    modified: float | None = None
    """The time of the last write, in seconds since 1970; None where that is not known."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectInfo) and self[:3] == other[:3]

    def __hash__(self) -> int:
        return hash(self[:3])


class Store(Protocol):
    """A "folder" of objects. Errors are those of `job.errors`: ObjectMissing, AccessDenied, StorageError.

    A store can be pickled, and used by several threads.
    """

    uri: str
    """The URI of the root; it ends with a slash."""
    access: Storage
    """The settings of requests to buckets."""

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        """The objects of `pages`, one by one."""

    def pages(
        self, prefix: str = "", *, after: str = "", before: str = "", skipped: Skipped | None = None
    ) -> Iterator[Objects]:
        """Lists objects by ascending UTF-8 bytes of their keys, page by page, without directory markers (`…/`): those
        whose keys come `after` and `before` these (empty: all).

        In a local folder, links are followed where they stay below the root, or where the store was opened with
        `follow_links`. Other links, and those that lead nowhere or in a circle, are appended to `skipped`.
        """

    def folders(self, prefix: str = "", *, after: str = "") -> Sequence[str] | None:
        """Folders right below the prefix (it is empty, or ends with a slash), each with a slash at its end: the first
        ones that come `after` this key, by FOLDER_PAGES requests at most. None where it is of no use to list several
        folders at a time.
        """

    def stat(self, key: str) -> ObjectInfo | None: ...

    def read(self, key: str, version: str | None = None) -> bytes:
        """All bytes of the object, never fewer. Raises ObjectMissing, also where this version of it is gone."""

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        """The first `count` bytes of the object (1 or more), or all where it has fewer. No checksum covers them."""

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        """`count` bytes (1 or more) of the object from `start` on, or fewer at its end. No checksum covers them."""

    def write(self, key: str, data: bytes) -> str:
        """Writes all or nothing, and returns the new version."""

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        """Replaces this version (None: creates a new object); raises WriteConflict where the object is another version.

        Where the network lost the reply to a successful write, its retry raises WriteConflict, too: read the object,
        then decide.
        """

    def delete(self, key: str) -> None:
        """Deletes the object. It is no error where it is gone already."""

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        """Deletes unfinished writes of killed processes below the prefix that are older than this many seconds.

        They are in no listing, but take up space. GCS deletes them by itself, after a week.
        """

    def upload(self, key: str, path: str) -> str:
        """Streams a local file into the store, and returns the new version."""

    def download(self, key: str, path: str) -> None:
        """Downloads the object to a local file. It never leaves an incomplete file at `path`."""

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        """A filesystem from which Arrow and Ray read, by this store's own client, and the path of the root in it."""


def open_store(uri: str, access: Storage = DEFAULTS, follow_links: bool = False) -> Store:
    """The store whose root is the folder `uri`, without any traffic. Raises JobError for other URIs.

    With `follow_links`, links that lead out of a local folder are followed, too. The path of the URI is not decoded:
    `%20` is three characters, and `s3://b/a//` is not `s3://b/a/`.
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
    """The sha256 of a local file, in hex."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def read_json(store: Store, key: str) -> Any | None:
    """The parsed JSON of the object; None where it is missing. Raises StorageError where it is no JSON."""
    try:
        content = store.read(key)
    except ObjectMissing:
        return None
    try:
        return json.loads(content)
    except ValueError as error:  # also what is not UTF-8
        raise StorageError(f"{store.uri}{key} is no JSON ({error}): delete it, and run again.") from error


def read_version(store: Store, key: str) -> tuple[bytes, str] | None:
    """The content and the version of an object that others may change at the same time; None where it is missing.
    Raises StorageError.
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
    """Translates errors of Arrow and of local files. Errors of buckets are translated already, after retries."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissing(f"{uri} was deleted in the meantime: run again.") from error
    except OSError as error:
        raise StorageError(f"{uri}: could not read it, after retries: {sentence(error)}") from error


@contextmanager
def table_errors(uri: str) -> Iterator[None]:
    """`arrow_errors` for a table that Thaw has written and can write again. It also translates errors of broken
    tables.
    """
    from pyarrow import ArrowInvalid

    try:
        with arrow_errors(uri):
            yield
    except ArrowInvalid as error:
        raise StorageError(f"{uri} is not what was written ({error}): delete it and run again.") from error
