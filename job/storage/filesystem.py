"""The store of file:// URIs: a folder on this machine, or on a shared disk."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import DEFAULTS, ObjectInfo, Skipped
from job.storage.objects import Objects, in_pages

if TYPE_CHECKING:
    import pyarrow.fs

HALF = ".thaw-half-"
"""The prefix of files that are still being written; these are not listed."""
LOCK = ".thaw-lock"
"""The file that conditional writers of a folder lock. It stays, and is not listed."""
LOCKED = 30.0
"""The most seconds to wait for a lock."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore:
    def __init__(self, root: str, follow_links: bool = False) -> None:
        """With `follow_links`, links that lead out of the root are followed, too."""
        self._leave = follow_links
        self.root = os.path.abspath(root).rstrip("/")
        self.uri, self.access = f"file://{self.root}/", DEFAULTS

    def pages(
        self, prefix: str = "", *, after: str = "", before: str = "", skipped: Skipped | None = None
    ) -> Iterator[Objects]:
        return in_pages(self.list(prefix, skipped), after, before)

    def folders(self, prefix: str = "", *, after: str = "") -> Sequence[str] | None:
        return None

    def list(self, prefix: str = "", skipped: Skipped | None = None) -> Iterator[ObjectInfo]:
        skipped = [] if skipped is None else skipped
        with self._translated("list", prefix):
            try:
                os.scandir(f"{self.root}/").close()
            except ABSENT as error:
                if os.path.isfile(self.root):
                    raise ObjectMissing(f"{self.uri[:-1]} is a file: name the folder that it is in.") from error
                raise ObjectMissing(f"{self.uri} does not exist: check the path, or make the folder.") from error
            above = prefix.rpartition("/")[0]
            if not above:
                yield from self._walk("", prefix, skipped)
            elif not any(map(self._is_left_out, _with_those_above(self._named(above), self.root))):
                yield from self._walk(f"{above}/", prefix, skipped)

    def stat(self, key: str) -> ObjectInfo | None:
        with self._translated("look at", key):
            return _info(key, self._path(key))

    def read(self, key: str, version: str | None = None) -> bytes:
        return self.read_range(key, 0, -1, version=version)

    def read_first(self, key: str, count: int, version: str | None = None) -> bytes:
        return self.read_range(key, 0, count, version=version)

    def write(self, key: str, data: bytes) -> str:
        return self._put(key, io.BytesIO(data), os.replace)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        conflict = WriteConflict(f"{self.uri}{key} was written by someone else: read it again before writing.")

        def place(half: str, path: str) -> None:
            if version is None:
                try:
                    os.link(half, path)
                except FileExistsError:
                    raise conflict from None
                return
            with _locked(f"{os.path.dirname(path)}/{LOCK}"):
                current = _info(key, path)
                if current is None or current.version != version:
                    raise conflict
                os.replace(half, path)

        return self._put(key, io.BytesIO(data), place)

    def delete(self, key: str) -> None:
        with self._translated("delete", key):
            path = self._path(key)
            if os.path.lexists(path) and not os.path.isdir(path):
                Path(path).unlink(missing_ok=True)

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        with self._translated("delete unfinished files of", prefix):
            for folder, _, names in os.walk(f"{self.root}/{prefix.rpartition('/')[0]}"):
                for half in (Path(folder, name) for name in names if name.startswith(HALF)):
                    with suppress(FileNotFoundError):  # just finished, or deleted by someone else
                        if time.time() - half.stat().st_mtime >= seconds:
                            half.unlink()

    def upload(self, key: str, path: str) -> str:
        with self._translated("write", key), open(path, "rb") as content:
            return self._put(key, content, os.replace)

    def download(self, key: str, path: str) -> None:
        with (
            self._translated("read", key),
            self._open(key) as file,
            half_file(path) as half,
            open(half, "xb") as copy,
        ):
            shutil.copyfileobj(file, copy, 1 << 20)

    def arrow(self) -> tuple[pyarrow.fs.FileSystem, str]:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem(), self.root or "/"

    def _walk(self, above: str, prefix: str, skipped: Skipped) -> Iterator[ObjectInfo]:
        """Lists entries in the order of object stores, which sort a folder by its name with a slash."""
        try:
            with os.scandir(os.fsencode(f"{self.root}/{above}")) as entries:
                listed = sorted((e.name + b"/" if _is_folder(e) else e.name, e.is_symlink()) for e in entries)
        except ABSENT:  # deleted since the folder above it was listed, or never there
            return
        for name, is_link in listed:
            key = above + name.decode()
            if not key.startswith(prefix[: len(key)]) or name.startswith((HALF.encode(), LOCK.encode())):
                continue
            path = f"{self.root}/{key.rstrip('/')}"
            if is_link and self._is_left_out(path):
                skipped.append(key.rstrip("/"))
            elif name.endswith(b"/"):
                yield from self._walk(key, prefix, skipped)
            elif key.startswith(prefix) and (info := _info(key, path)):
                yield info

    def _path(self, key: str) -> str:
        path = self._named(key)
        if not self._may_follow(path):
            raise StorageError(f"{self.uri}: {key!r} can't be the name of a file below it: a link leads out of it.")
        return path

    def _named(self, key: str) -> str:
        if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise StorageError(f"{self.uri}: {key!r} can't be the name of a file below it.")
        key.encode()  # a name that is not UTF-8 could be written, but not listed
        return f"{self.root}/{key}"

    def _is_left_out(self, path: str) -> bool:
        """Whether the path is a link that is not followed."""
        return os.path.islink(path) and not (self._may_follow(path) and os.path.exists(path) and not _leads_up(path))

    def _may_follow(self, path: str) -> bool:
        """Whether the path may be followed: its target is below the root, or links may lead out of it."""
        return self._leave or os.path.realpath(path).startswith(f"{os.path.realpath(self.root or '/').rstrip('/')}/")

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        with self._translated("read", key), self._open(key) as file:
            file.seek(start)
            content = file.read(count)
            if version is not None and _version(os.fstat(file.fileno())) != version:
                raise ObjectMissing(f"{self.uri}{key} is not the version that was listed: it was written since.")
            return content

    def _open(self, key: str) -> BinaryIO:
        try:
            return open(self._path(key), "rb")
        except ABSENT as error:
            raise ObjectMissing(f"{self.uri}{key} does not exist: check the path.") from error

    def _put(self, key: str, content: BinaryIO, place: Callable[[str, str], None]) -> str:
        """Writes a temporary file beside the target, and moves it there by `place(temporary, target)`."""
        with self._translated("write", key):
            path = self._path(key)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with half_file(path, place) as half, open(half, "xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                file.flush()
                # The kernel's file times tick only every few milliseconds: two writes could have the same version.
                os.utime(file.fileno(), ns=(now := time.time_ns(), now))
                os.fsync(file.fileno())
                version = _version(os.fstat(file.fileno()))
            return version

    @contextmanager
    def _translated(self, action: str, key: str) -> Iterator[None]:
        where = f"{self.uri}{key}"
        try:
            yield
        except PermissionError as error:
            raise AccessDenied(
                f"{where}: not allowed to {action} it: check the owner and the mode of {error.filename or 'the file'}."
            ) from error
        except OSError as error:
            if error.errno in FULL:
                raise StorageError(
                    f"{where}: could not {action} it: {error.strerror}: free some space on that disk, or raise the "
                    "quota, then run it again."
                ) from error
            raise StorageError(f"{where!r}: could not {action} it: {error}.") from error
        except UnicodeError as error:
            raise StorageError(f"{where!r}: could not {action} it: rename what is not UTF-8 ({error}).") from error


@contextmanager
def half_file(path: str, place: Callable[[str, str], None] = os.replace) -> Iterator[str]:
    """Yields the name of a temporary file beside `path`. At the end it is moved to `path`; after an error, deleted."""
    half = os.path.join(os.path.dirname(path), f"{HALF}{uuid.uuid4().hex}")
    try:
        yield half
        place(half, path)
    finally:
        Path(half).unlink(missing_ok=True)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether the entry is a folder, or a link to one."""
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _with_those_above(path: str, root: str) -> Iterator[str]:
    """The path, and the folders above it up to the root, without the root."""
    while path != root:
        yield path
        path = os.path.dirname(path)


def _leads_up(path: str) -> bool:
    """Whether a link leads to a folder above itself, so that following it would never end."""
    target, here = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
    return f"{here}/".startswith(f"{target}/")


def _info(key: str, path: str) -> ObjectInfo | None:
    try:
        status = os.stat(path)
    except OSError as error:
        if isinstance(error, ABSENT) or error.errno == errno.ELOOP:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    return ObjectInfo(key, status.st_size, _version(status), status.st_mtime)


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Holds an exclusive lock between threads and processes; to be held for a moment only. (NFS needs a file that is
    open for writing.) Raises StorageError where a suspended process holds the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    until = time.monotonic() + LOCKED
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StorageError(
                        f"{path}: another process has had this lock for {LOCKED:g} s: it was stopped as it wrote, or "
                        "its disk hangs. End it, and run again."
                    ) from None
                time.sleep(0.002)
        yield
    finally:
        os.close(handle)
