"""A node's copy of a feature set: one sparse, mapped file with a place for every example, which is filled part by part.

The workers of a node share it. Where it would be larger than the node's share of disk, each worker has a private copy,
and removes the parts that it has read.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from job.errors import CorruptFeatures, StorageError
from job.features.dataset import Dataset, FeatureSet
from job.features.store import ids_of, read_part
from job.storage import Store

READERS = 8
"""Parts that one worker reads at a time."""
FREE_SHARE = 0.5
"""The share of the free disk that features may take where no limit is given."""


class FeatureCache:
    """The `values` [n, …] and `ids` int64 [n] of a feature set. Those of an example are valid once `wait` returned."""

    def __init__(self, store: Store, data: Dataset, features: FeatureSet, *, cache: NodeCache) -> None:
        self._store, self._features = store, features
        featurizer, examples = features.featurizer, len(data.rows)
        self.dtype = featurizer.dtype
        name = hashlib.sha256(f"{store.uri}\0{data.id}\0{featurizer.id}\0{_boot()}".encode()).hexdigest()[:20]
        size = examples * featurizer.bytes_per_example
        self._cache = cache
        folder = cache.folder(name, int((features.part >= 0).sum()) * featurizer.bytes_per_example)
        self.shared = folder is not None
        with _named(folder, cache.root) as folder:
            self._values, self._ids = _File(folder / "values", size), _File(folder / "ids", 8 * examples)
            self._flags = _File(folder / "present", len(features.parts))
        self.values = np.ndarray((examples, *featurizer.shape), featurizer.storage, self._values.pages)
        self.ids = np.ndarray([examples], np.int64, self._ids.pages)
        self._present = np.ndarray([len(features.parts)], np.uint8, self._flags.pages)
        self._order = np.argsort(features.part, kind="stable").astype(np.int32)
        self._bounds = np.searchsorted(features.part[self._order], np.arange(len(features.parts) + 1))
        self._kept: set[int] = set()
        self._lock = threading.Lock()
        self._fetches: dict[int, Future[None]] = {}
        self._pool = ThreadPoolExecutor(READERS, "features")

    def fetch(self, examples: np.ndarray) -> None:
        """Begins to copy the parts of these examples that are not here yet."""
        for part in self._parts(examples):
            with self._lock:
                if not self._present[part] and part not in self._fetches:
                    self._fetches[part] = self._pool.submit(self._copy, part)

    def wait(self, examples: np.ndarray) -> None:
        """Returns when the examples are here. Raises CorruptFeatures and StorageError."""
        self.fetch(examples)
        for part in self._parts(examples):
            with self._lock:
                fetch = self._fetches.get(part)
            if fetch is not None:
                fetch.result()

    def release(self, still: np.ndarray) -> None:
        """Frees the disk of all parts that the examples `still` do not need, except for parts that fit in the limit."""
        if self.shared:
            return
        width = self._features.featurizer.bytes_per_example
        for part in sorted(self._fetches.keys() - self._kept - set(self._parts(still))):
            positions = self._positions(part)
            if not self._fetches[part].done():
                continue
            if self._cache.keep(len(positions) * width):
                self._kept.add(part)
                continue
            with self._lock:
                self._flags.write(np.zeros(1, np.uint8), part)
                del self._fetches[part]
            self._punch(positions)

    def _parts(self, examples: np.ndarray) -> list[int]:
        parts = np.unique(self._features.part[examples]).tolist()
        assert not parts or parts[0] >= 0, "an example without this feature"
        return parts

    def _positions(self, part: int) -> np.ndarray:
        return self._order[self._bounds[part] : self._bounds[part + 1]]

    def _copy(self, part: int) -> None:
        """Copies a part into the files. Two processes that copy it at the same time write the same bytes."""
        stored, positions = self._features.parts[part], self._positions(part)
        addresses, values = read_part(self._store, self._features.featurizer, stored)
        offsets = self._features.offset[positions]
        if len(addresses) != stored.rows or offsets.max() >= stored.rows:
            name = self._features.featurizer.id
            raise CorruptFeatures(f"features/{name}/{stored.file}: rows are missing.", name, stored.file)
        ids = ids_of(addresses)
        for run in _runs(np.arange(len(positions)), positions):
            self._values.write(values[offsets[run]], int(positions[run[0]]) * values[0].nbytes)
            self._ids.write(ids[offsets[run]], int(positions[run[0]]) * 8)
        self._flags.write(np.ones(1, np.uint8), part)

    def _punch(self, positions: np.ndarray) -> None:
        """Makes holes in the file for whole pages of these positions. A file system without holes keeps the pages."""
        width = self._features.featurizer.bytes_per_example
        for run in _runs(positions, positions):
            begin = -(-int(run[0]) * width // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (int(run[-1]) + 1) * width // mmap.PAGESIZE * mmap.PAGESIZE
            if end > begin:
                try:
                    self._values.pages.madvise(mmap.MADV_REMOVE, begin, end - begin)
                except (OSError, AttributeError):  # the constant is Linux's
                    return


class NodeCache:
    """The folder for caches on this node, and the disk space that they may take."""

    def __init__(self, root: str | None, limit: int | None, workers: int) -> None:
        """`limit` is in bytes, for all `workers` of this node together; None means half of the free disk."""
        self.root = Path(root or os.environ.get("THAW_CACHE") or Path(tempfile.gettempdir(), f"thaw-{os.getuid()}"))
        self.root.mkdir(parents=True, exist_ok=True)
        self.limit = free_for_features(self.root) if limit is None else limit
        self._workers, self._kept = workers, 0
        self._shared: dict[str, int] = {}

    def folder(self, name: str, size: int) -> Path | None:
        """The shared folder for a cache of `size` bytes; None where it does not fit beside the earlier ones."""
        if size > self.limit - sum(self._shared.values()):
            return None
        self._shared[name] = size
        path = self.root / name
        path.mkdir(exist_ok=True)
        os.utime(path)
        self._forget_old()
        return path

    def keep(self, size: int) -> bool:
        """Whether a worker may keep `size` more bytes in its private caches; counts them where it may."""
        fits = self._kept + size <= (self.limit - sum(self._shared.values())) // self._workers
        self._kept += size if fits else 0
        return fits

    def _forget_old(self) -> None:
        """Deletes the least recently used caches until there is room. A process that has mapped one keeps it."""
        total = sum(self._shared.values())
        for _, used, path in sorted(_caches(self.root), reverse=True):
            total += 0 if path.name in self._shared else used
            if total > self.limit and path.name not in self._shared:
                shutil.rmtree(path, ignore_errors=True)


def free_for_features(root: Path) -> int:
    """Bytes that features may take below this folder, existing ones included."""
    used = sum(used for _, used, _ in _caches(root))
    return int((shutil.disk_usage(root).free + used) * FREE_SHARE)


def _caches(root: Path) -> list[tuple[float, int, Path]]:
    """The time of last use, the bytes and the path of each cache."""
    caches = []
    for path in root.iterdir():
        try:
            used = sum(file.stat().st_blocks * 512 for file in path.iterdir())
            caches.append((path.stat().st_mtime, used, path))
        except OSError:  # not a folder, or deleted by someone else
            continue
    return caches


def _boot() -> str:
    """An id of this boot. It is part of a cache's name: after a crash, pages of older caches may be lost."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return ""


@contextmanager
def _named(folder: Path | None, root: Path) -> Iterator[Path]:
    """The `folder`, or without one a temporary folder, which is removed as soon as its files are open."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="own-", dir=root) as own:
        yield Path(own)


class _File:
    """A sparse file of a fixed size that is read through mapped pages, and written by system calls. A full disk is an
    error of the call, while writing to a page would kill the process.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        try:
            self.handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.truncate(self.handle, max(size, 1))
            self.pages = mmap.mmap(self.handle, max(size, 1))
        except OSError as error:
            raise self._no_room(error) from error

    def write(self, array: np.ndarray, position: int) -> None:
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        try:
            while content:
                written = os.pwrite(self.handle, content, position)
                content, position = content[written:], position + written
        except OSError as error:
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path.parent}: the features can't be copied to this node: {error.strerror}. Set THAW_CACHE to a "
            "folder with room, or train.cache_limit to what it has."
        )


def _runs(values: np.ndarray, positions: np.ndarray) -> list[np.ndarray]:
    """Splits `values` into runs whose `positions` (ascending) follow each other without a gap."""
    return np.split(values, np.flatnonzero(np.diff(positions) != 1) + 1)
