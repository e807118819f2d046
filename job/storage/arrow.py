"""Buckets as filesystems for Arrow and Ray, through the store's own client, so that there is only one configuration.

Arrow's own clients are configured differently: they support neither endpoints in a profile, nor roles that are assumed
again every hour, nor certificate bundles of a profile.
"""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from job.errors import ObjectMissing
from job.storage import ObjectInfo

NOT_HERE = "is for reading objects whose keys are known: ask the store itself"


class Ranged(Protocol):
    """The part of a store that the filesystem needs."""

    uri: str

    def stat(self, key: str) -> ObjectInfo | None: ...

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        """`count` bytes (1 or more) of the object from `start` on, or fewer at its end. No checksum covers them."""


def as_filesystem(store: Ranged) -> tuple[PyFileSystem, str]:
    """A filesystem of the store, and the path of the store's root in it."""
    handler = _Handler(store)
    return PyFileSystem(handler), handler.root


class _Handler(FileSystemHandler):
    """A read-only filesystem. Failures raise the errors of the store."""

    def __init__(self, store: Ranged) -> None:
        self._store = store
        self.root = store.uri.partition("://")[2].removesuffix("/")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and other._store.uri == self._store.uri

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._store.uri)

    def get_type_name(self) -> str:
        return "thaw"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(_Reader(self._store, self._key(path)), mode="r")

    open_input_stream = open_input_file

    def _info(self, path: str) -> FileInfo:
        info = self._store.stat(self._key(path))
        if info is None:
            return FileInfo(path, FileType.NotFound)
        return FileInfo(path, FileType.File, size=info.size, mtime=info.modified)

    def _key(self, path: str) -> str:
        return path.removeprefix(f"{self.root}/")

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        raise NotImplementedError(f"This filesystem {NOT_HERE}.")

    def _refuse(self, *_: Any) -> None:
        raise NotImplementedError(f"This filesystem {NOT_HERE}.")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = copy_file = _refuse
    open_output_stream = open_append_stream = _refuse


class _Reader:
    """One version of an object as a file. Reading raises ObjectMissing once the object has another version."""

    closed = False

    def __init__(self, store: Ranged, key: str) -> None:
        info = store.stat(key)
        if info is None:
            raise ObjectMissing(f"{store.uri}{key} does not exist: it was deleted in the meantime: run again.")
        self._store, self._info, self._at = store, info, 0

    def read(self, count: int = -1) -> bytes:
        left = max(0, self._info.size - self._at)
        count = left if count < 0 else min(count, left)
        if not count:
            return b""
        content = self._store.read_range(self._info.key, self._at, count, version=self._info.version)
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._info.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True
