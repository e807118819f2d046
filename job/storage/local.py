"""file://: a folder on this machine (or on a shared disk)."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo

if TYPE_CHECKING:
    import pyarrow.fs

HALF = ".thaw-half-"
"""Begins the name of a file that is still being written; such files are not listed."""


class LocalStore:
    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.uri = f"file://{self.root.rstrip('/')}/"

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._translated("list", prefix):
            if not os.path.isdir(self.root):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            yield from self._walk(self.root, "", prefix)

    def stat(self, key: str) -> ObjectInfo | None:
        with self._translated("look at", key):
            try:
                status = os.stat(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return None
            return ObjectInfo(key, status.st_size, _version(status))

    def read(self, key: str) -> bytes:
        with self._translated("read", key):
            return Path(self._path(key)).read_bytes()

    def write(self, key: str, data: bytes) -> str:
        with self._half_file(key) as (half, path):
            _write_through(half, data)
            os.replace(half, path)
            return _version(os.stat(path))

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        with self._half_file(key) as (half, path), _locked(os.path.dirname(path)):
            current = self.stat(key)
            if (current.version if current else None) != version:
                raise WriteConflict(f"{self.uri}{key} was written by someone else: read it again before writing.")
            _write_through(half, data)
            os.replace(half, path)
            return _version(os.stat(path))

    def delete(self, key: str) -> None:
        with self._translated("delete", key):
            Path(self._path(key)).unlink(missing_ok=True)

    def upload(self, key: str, path: str) -> str:
        with self._half_file(key) as (half, target):
            shutil.copyfile(path, half)
            os.replace(half, target)
            return _version(os.stat(target))

    def download(self, key: str, path: str) -> None:
        with self._translated("read", key):
            half = f"{path}{HALF}"
            shutil.copyfile(self._path(key), half)
            os.replace(half, path)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.root

    def _walk(self, folder: str, key: str, prefix: str) -> Iterator[ObjectInfo]:
        """Entries sorted as object stores sort keys: a folder by its name and a slash. Links to folders are skipped."""
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda e: os.fsencode(e.name + ("/" if e.is_dir() else "")))
        for entry in found:
            below = f"{key}{entry.name}"
            if entry.is_dir():
                if not entry.is_symlink() and (below + "/").startswith(prefix[: len(below) + 1]):
                    yield from self._walk(entry.path, f"{below}/", prefix)
            elif below.startswith(prefix) and not entry.name.startswith(HALF) and entry.is_file():
                status = entry.stat()
                yield ObjectInfo(below, status.st_size, _version(status))

    def _path(self, key: str) -> str:
        parts = key.split("/")
        if not key or "\0" in key or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{self.uri}: {key!r} can't be the name of a file below it.")
        return f"{self.root}/{key}"

    @contextmanager
    def _half_file(self, key: str) -> Iterator[tuple[str, str]]:
        """A temporary file beside the target, and the target; the first is gone afterwards."""
        with self._translated("write", key):
            path = self._path(key)
            folder = os.path.dirname(path)
            os.makedirs(folder, exist_ok=True)
            handle, half = tempfile.mkstemp(prefix=HALF, dir=folder)
            os.close(handle)
            os.chmod(half, 0o644)
            try:
                yield half, path
            finally:
                Path(half).unlink(missing_ok=True)

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}{key}"
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectMissing(f"{where} does not exist: check the path.") from error
        except PermissionError as error:
            raise AccessDenied(f"{where}: not allowed to {action} it: check the owner and the mode.") from error
        except OSError as error:
            raise StorageError(f"{where}: could not {action} it: {error.strerror or error}.") from error


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def _write_through(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(folder: str) -> Iterator[Any]:
    """An exclusive lock on the folder, between processes of this machine."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
