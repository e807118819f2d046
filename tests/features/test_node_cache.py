"""What a node keeps of the features it has read: as much as its disk may take."""

from __future__ import annotations

import errno
import mmap
import os
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.errors import StorageError
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset
from job.storage import Store
from support.copied import (
    EXAMPLES,
    TRAIN,
    Counting,
    cache_of,
    everyone,
    in_order,
    noise,
    scattered,
    store_parts,
    store_views,
)
from support.tools import leave_out


def on_disk(cache: FeatureCache) -> int:
    return os.fstat(cache._values.handle).st_blocks * 512


@pytest.fixture
def holes(tmp_path: Path) -> None:
    """For tests of what only a file system with holes can do: skipped elsewhere, but where every tool is required."""
    with open(tmp_path / "probe", "w+b") as file:
        file.write(bytes([1]) * 2**16)
        file.flush()
        before = os.fstat(file.fileno()).st_blocks
        with suppress(AttributeError, OSError):
            mmap.mmap(file.fileno(), 2**16).madvise(mmap.MADV_REMOVE)
        if os.fstat(file.fileno()).st_blocks < before:
            return
    leave_out("no holes in files here")


@pytest.mark.parametrize("width", [4096, 6000])
def test_a_copy_that_does_not_fit_gives_back_what_was_read(width: int, tmp_path: Path, holes: None) -> None:
    values = noise((width,))
    store, data = store_parts(tmp_path, values)
    cache = cache_of(store, data, tmp_path, limit=0)
    assert not cache.shared
    assert list((tmp_path / "cache").iterdir()) == []
    cache.wait(everyone())
    whole, halves = on_disk(cache), np.split(everyone(), 2)
    cache.release(halves[1])
    assert on_disk(cache) < 0.65 * whole
    assert (cache.values[halves[1]] == values[halves[1]]).all()
    for _ in range(2):
        cache.wait(everyone())
        assert (cache.values == values).all()
        assert (cache.ids == data.ids).all()
        cache.release(np.empty(0, np.int64))
        assert on_disk(cache) <= 17 * mmap.PAGESIZE  # where a page ends in another part


def test_epochs_over_a_copy_that_does_not_fit_read_the_right_values(tmp_path: Path, holes: None) -> None:
    """Parts lie scattered, so that a page has values of several of them."""
    values = noise((1000,), "float16")
    store, data = store_views(tmp_path, [values], [scattered(everyone(), 4)])
    cache = cache_of(store, data, tmp_path, limit=0)
    for epoch in range(3):
        steps = np.array_split(np.random.default_rng(epoch).permutation(EXAMPLES), 16)
        for at, now in enumerate(steps):
            cache.wait(now)
            assert (cache.values[now] == values[now]).all()
            assert (cache.ids[now] == data.ids[now]).all()
            coming = steps[at + 1] if at + 1 < len(steps) else np.empty(0, np.int64)
            cache.fetch(coming)
            cache.release(np.concatenate([now, coming]))


@pytest.mark.parametrize(("workers", "kept"), [(1, 7), (2, 3), (8, 0)])
def test_a_worker_keeps_its_share_of_what_fits(workers: int, kept: int, tmp_path: Path, holes: None) -> None:
    """In parts of four examples, of a limit of thirty."""
    width = 4096
    store, data = store_parts(tmp_path, noise((width,)))
    counting = Counting(store)
    cache = FeatureCache(counting, data, data.inputs[0], cache=NodeCache(str(tmp_path / "cache"), 30 * width, workers))
    for epoch in range(3):
        cache.wait(everyone())
        assert len(counting.reads) == (16 if epoch == 0 else 16 - kept)
        counting.reads.clear()
        cache.release(np.empty(0, np.int64))
        assert on_disk(cache) == kept * 4 * width


def test_copies_that_do_not_fit_keep_one_share_together(tmp_path: Path, holes: None) -> None:
    width = 4096
    views = [noise((width,), seed=view) for view in range(3)]
    store, data = store_views(tmp_path, views, [in_order(4)] * 3)
    cache = NodeCache(str(tmp_path / "cache"), 30 * width, 1)
    caches = [FeatureCache(store, data, features, cache=cache) for features in data.inputs]
    for cache, side in zip(caches, (everyone(), TRAIN, TRAIN), strict=True):
        cache.wait(side)
        cache.release(np.empty(0, np.int64))
    assert 0 < sum(map(on_disk, caches)) <= 30 * width


def test_the_copies_that_fit_beside_each_other_are_shared(tmp_path: Path) -> None:
    store, data = store_views(tmp_path, [noise((100,), seed=view) for view in range(3)], [in_order(4)] * 3)
    cache = NodeCache(str(tmp_path / "cache"), 2 * 100 * EXAMPLES, 1)
    caches = [FeatureCache(store, data, features, cache=cache) for features in data.inputs]
    assert [cache.shared for cache in caches] == [True, True, False]


def folders(tmp_path: Path) -> set[Path]:
    return set((tmp_path / "cache").iterdir())


def copies(store: Store, data: Dataset, folder: Path, count: int) -> tuple[list[FeatureCache], list[Path]]:
    """Of the first feature sets, used one after the other, and their folders."""
    caches: list[FeatureCache] = []
    paths: list[Path] = []
    for view in range(count):
        caches.append(cache_of(store, data, folder, view=view))
        caches[view].wait(TRAIN)
        paths += folders(folder) - set(paths)
        os.utime(paths[view], (view, view))
    return caches, paths


def test_the_copies_that_were_used_longest_ago_are_deleted(tmp_path: Path) -> None:
    width = 2**14
    store, data = store_views(tmp_path, [noise((width,))] * 4, [in_order(4)] * 4)
    caches, paths = copies(store, data, tmp_path, 4)
    again = cache_of(store, data, tmp_path, limit=int(2.5 * width * len(TRAIN)), view=1)
    assert folders(tmp_path) == {paths[1], paths[3]}
    assert again.shared
    caches[2].wait(TRAIN)
    assert (caches[2].values[TRAIN] == noise((width,))[TRAIN]).all()  # who has one keeps it


def test_older_copies_make_room_for_all_of_a_new_one(tmp_path: Path) -> None:
    width = 2**14
    store, data = store_views(tmp_path, [noise((width,))] * 4, [in_order(4)] * 4)
    paths = copies(store, data, tmp_path, 3)[1]
    limit = int(2.1 * width * EXAMPLES)
    cache_of(store, data, tmp_path, limit, view=3).wait(TRAIN)
    assert folders(tmp_path) - set(paths[:2]) == folders(tmp_path)
    assert sum(file.stat().st_blocks * 512 for file in (tmp_path / "cache").glob("*/*")) <= limit


def test_half_of_what_is_free_may_be_taken_where_no_limit_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken already counts as free, so that the limit stays when a run goes on."""
    store, data = store_parts(tmp_path, noise((4096,)))
    cache = cache_of(store, data, tmp_path)
    cache.wait(everyone())
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, 10**6))
    (tmp_path / "cache" / "no folder").write_bytes(b"something else")
    taken = sum(file.stat().st_blocks * 512 for file in (tmp_path / "cache").glob("*/*"))
    assert taken >= 4096 * EXAMPLES
    assert NodeCache(str(tmp_path / "cache"), None, 1).limit == (10**6 + taken) // 2


def test_the_folder_is_that_of_thaw_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_CACHE", str(tmp_path / "a" / "b"))
    assert NodeCache(None, 10, 1).root == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("limit", [None, 0])
def test_a_full_disk_names_what_to_do(limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, data = store_parts(tmp_path, noise((4096,)))
    cache = cache_of(store, data, tmp_path, limit)

    def full(handle: int, content: Any, position: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(StorageError, match=rf"{tmp_path}/cache.*No space left.*THAW_CACHE.*train\.cache_limit"):
        cache.wait(np.array([1]))
