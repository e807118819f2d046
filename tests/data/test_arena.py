from __future__ import annotations

import errno
import hashlib
import mmap
import os
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored import CLASSES, examples_of, featurizer_of

from job.data.arena import Arena, NodeCache
from job.data.dataset import Dataset, load_dataset, write_dataset
from job.data.features import known, write_part
from job.errors import CorruptFeatures, StorageError
from job.storage import Store, open_store

EXAMPLES = 64
TRAIN = np.setdiff1d(np.arange(EXAMPLES), np.arange(0, EXAMPLES, 5))


class Counting:
    """A store that remembers what was read from it."""

    def __init__(self, store: Store) -> None:
        self.store, self.reads = store, []

    def read(self, key: str, version: str | None = None) -> bytes:
        self.reads.append(key)
        return self.store.read(key, version)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (EXAMPLES, *shape), np.uint8).astype(dtype)


def store_views(folder: Path, views: list[np.ndarray], parts: list[list[np.ndarray]]) -> tuple[Store, Dataset]:
    """Each view of the inputs in the parts that are given for it, as members; a data set `run` without pooled features.

    Views other than the first are there for the training examples only.
    """
    (folder / "store").mkdir(parents=True)
    store = open_store(f"file://{folder}/store/")
    others = np.setdiff1d(np.arange(EXAMPLES), TRAIN)
    examples = examples_of(
        np.arange(EXAMPLES, dtype=np.int32) % 2, {"train": TRAIN, "validation": others[:6], "test": others[6:]}
    )
    found = []
    for view, (values, members) in enumerate(zip(views, parts, strict=True)):
        featurizer = featurizer_of("at the cut", values, view)
        for chosen in members:
            write_part(store, featurizer, examples.addresses[chosen], values[chosen])
        found.append((featurizer, known(store, featurizer)))
    write_dataset(store, "run", CLASSES, examples, np.ones(EXAMPLES, np.bool_), [], found)
    return store, load_dataset(store, "run", CLASSES, None)


def in_order(size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, EXAMPLES)) for start in range(0, EXAMPLES, size)]


def scattered(members: np.ndarray, size: int) -> list[np.ndarray]:
    """Parts of two generations: some of the second has been stored by the first."""
    random = np.random.default_rng(size)
    shuffled = random.permutation(members)
    first, second = shuffled[: len(members) // 3], random.permutation(shuffled[len(members) // 4 :])
    return [part[at : at + size] for part in (first, second) for at in range(0, len(part), size)]


def store_parts(folder: Path, values: np.ndarray, size: int = 4) -> tuple[Store, Dataset]:
    """One view, in parts of neighbours."""
    return store_views(folder, [values], [in_order(size)])


def arena_of(store: Any, data: Dataset, folder: Path, limit: int | None = None, view: int = 0) -> Arena:
    return Arena(store, data, data.inputs[view], NodeCache(str(folder / "cache"), limit, 1))


def with_offset(data: Dataset, offset: np.ndarray) -> Dataset:
    return replace(data, inputs=[replace(data.inputs[0], offset=offset)])


def on_disk(arena: Arena) -> int:
    return os.fstat(arena._values.handle).st_blocks * 512


def everyone() -> np.ndarray:
    return np.arange(EXAMPLES)


@pytest.fixture
def holes(tmp_path: Path) -> None:
    """For tests of what only a file system with holes can do."""
    with open(tmp_path / "probe", "w+b") as file:
        file.write(bytes([1]) * 2**16)
        file.flush()
        before = os.fstat(file.fileno()).st_blocks
        try:
            mmap.mmap(file.fileno(), 2**16).madvise(mmap.MADV_REMOVE)
        except (AttributeError, OSError):
            pytest.skip("no holes in files here")
        if os.fstat(file.fileno()).st_blocks >= before:
            pytest.skip("no holes in files here")


@pytest.mark.parametrize(
    ("size", "shape", "dtype"),
    [(1, (7,), "float16"), (3, (5, 3), "uint8"), (5, (1500,), "float32"), (1000, (7,), "float16")],
)
def test_every_example_arrives_at_its_place(size: int, shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    """Whatever the parts are, in whatever order they are asked for; validation and test have no other view."""
    views = [noise(shape, dtype, view) for view in range(3)]
    members = [everyone(), TRAIN, TRAIN]
    store, data = store_views(tmp_path, views, [scattered(side, size) for side in members])
    assert (data.inputs[1].part < 0).sum() == EXAMPLES - len(TRAIN)
    for view, side in enumerate(members):
        for limit in (None, 0):
            arena = arena_of(store, data, tmp_path, limit, view)
            assert arena.shared == (limit is None)
            for asked in np.array_split(np.random.default_rng(view).permutation(side), 4):
                arena.wait(asked)
                assert arena.values[asked].tobytes() == views[view][asked].tobytes()
                assert (arena.ids[asked] == data.ids[asked]).all()
            assert arena.values[side].tobytes() == views[view][side].tobytes()
            assert (arena.values.dtype, arena.values.shape, arena.ids.dtype) == (dtype, (EXAMPLES, *shape), np.int64)


def test_ids_are_those_that_were_read_with_the_values(tmp_path: Path) -> None:
    """Not those of the data set: they prove what was read."""
    store, data = store_parts(tmp_path, noise((3,)))
    swapped = np.arange(EXAMPLES)
    swapped[[4, 5]] = [5, 4]
    arena = arena_of(store, with_offset(data, data.inputs[0].offset[swapped]), tmp_path)
    arena.wait(everyone())
    assert (arena.ids == data.ids[swapped]).all()
    assert (arena.ids != data.ids).sum() == 2
    assert (arena.values == noise((3,))[swapped]).all()


def test_a_part_is_read_once_and_only_where_it_is_needed(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    counting = Counting(store)
    arena = arena_of(counting, data, tmp_path)
    assert counting.reads == []
    arena.fetch(np.array([1, 2, 9]))
    arena.wait(np.array([9]))
    arena.wait(np.array([0, 1, 2, 3]))
    arena.wait(np.empty(0, np.int64))
    assert len(counting.reads) == 2
    arena.wait(everyone())
    assert len(counting.reads) == len(set(counting.reads)) == EXAMPLES / 4


def test_a_part_that_is_not_what_was_written_is_an_error_of_those_who_need_it(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    featurizer, part = data.inputs[0].featurizer, data.inputs[0].parts[data.inputs[0].part[8]]
    store.write(f"features/{featurizer.id}/{part.name}.parquet", b"something else")
    arena = arena_of(store, data, tmp_path)
    arena.fetch(everyone())
    arena.wait(np.arange(8))
    assert (arena.values[:8] == noise((3,))[:8]).all()
    for _ in range(2):
        with pytest.raises(CorruptFeatures) as caught:
            arena.wait(np.array([3, 8]))
        assert (caught.value.featurizer, caught.value.part) == (featurizer.id, part.name)


def test_a_part_with_fewer_rows_than_the_data_set_says_is_an_error(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    offset = data.inputs[0].offset.copy()
    offset[9] = 4
    with pytest.raises(CorruptFeatures, match="rows are missing"):
        arena_of(store, with_offset(data, offset), tmp_path).wait(np.array([8]))


SECOND = """
import hashlib, os, signal, sys
import numpy as np
from job.data import arena
from job.data.arena import Arena, NodeCache
from job.data.dataset import load_dataset
from job.storage import open_store

uri, cache, seed, writes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
arena.READERS = 1 if writes else 8
pwrite = os.pwrite

def last_gasp(handle, content, position):
    global writes
    writes -= 1
    if not writes:
        pwrite(handle, content[: len(content) // 2], position)
        os.kill(os.getpid(), signal.SIGKILL)
    return pwrite(handle, content, position)

os.pwrite = last_gasp
store = open_store(uri)
data = load_dataset(store, "run", ["a", "b"], None)
copy = Arena(store, data, data.inputs[0], NodeCache(cache, None, 2))
for some in np.array_split(np.random.default_rng(seed).permutation(len(data.rows)), 5):
    copy.wait(some)
print(hashlib.sha256(copy.values.tobytes() + copy.ids.tobytes()).hexdigest())
"""


def second_process(store: Store, folder: Path, seed: int = 0, killed_at: int = 0) -> subprocess.Popen[str]:
    """Copies all, or is killed half way through one of its writes."""
    arguments = [store.uri, str(folder / "cache"), str(seed), str(killed_at)]
    return subprocess.Popen([sys.executable, "-c", SECOND, *arguments], stdout=subprocess.PIPE, text=True)


def test_workers_of_a_node_share_what_they_copy(tmp_path: Path) -> None:
    """Two copy at the same time; one that comes later reads nothing from the store."""
    values = noise((40, 40))
    store, data = store_views(tmp_path, [values], [scattered(everyone(), 5)])
    wanted = hashlib.sha256(values.tobytes() + data.ids.tobytes()).hexdigest()
    both = [second_process(store, tmp_path, seed) for seed in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [wanted] * 2
    counting = Counting(store)
    arena = arena_of(counting, data, tmp_path)
    arena.wait(everyone())
    assert counting.reads == []
    assert (arena.values == values).all()
    assert (arena.ids == data.ids).all()


def test_what_a_killed_worker_has_half_copied_is_copied_again(tmp_path: Path) -> None:
    values = noise((40, 40))
    store, data = store_parts(tmp_path, values)
    killed = second_process(store, tmp_path, killed_at=28)  # the values of the tenth part of sixteen
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    counting = Counting(store)
    arena = arena_of(counting, data, tmp_path)
    arena.wait(everyone())
    assert len(counting.reads) == 7
    assert (arena.values == values).all()
    assert (arena.ids == data.ids).all()


def test_nothing_outlives_a_restart_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may have been lost that was written before the flag that says so."""
    store, data = store_parts(tmp_path, noise((3,)))
    arena_of(store, data, tmp_path).wait(everyone())
    monkeypatch.setattr("job.data.arena._boot", lambda: "another")
    counting = Counting(store)
    arena_of(counting, data, tmp_path).wait(everyone())
    assert len(counting.reads) == EXAMPLES / 4


@pytest.mark.parametrize("width", [4096, 6000])
def test_a_copy_that_does_not_fit_gives_back_what_was_read(width: int, tmp_path: Path, holes: None) -> None:
    values = noise((width,))
    store, data = store_parts(tmp_path, values)
    arena = arena_of(store, data, tmp_path, limit=0)
    assert not arena.shared
    assert list((tmp_path / "cache").iterdir()) == []
    arena.wait(everyone())
    whole, halves = on_disk(arena), np.split(everyone(), 2)
    arena.release(halves[1])
    assert on_disk(arena) < 0.65 * whole
    assert (arena.values[halves[1]] == values[halves[1]]).all()
    for _ in range(2):
        arena.wait(everyone())
        assert (arena.values == values).all()
        assert (arena.ids == data.ids).all()
        arena.release(np.empty(0, np.int64))
        assert on_disk(arena) <= 17 * mmap.PAGESIZE  # where a page ends in another part


def test_epochs_over_a_copy_that_does_not_fit_read_the_right_values(tmp_path: Path, holes: None) -> None:
    """Parts lie scattered, so that a page has values of several of them."""
    values = noise((1000,), "float16")
    store, data = store_views(tmp_path, [values], [scattered(everyone(), 4)])
    arena = arena_of(store, data, tmp_path, limit=0)
    for epoch in range(3):
        steps = np.array_split(np.random.default_rng(epoch).permutation(EXAMPLES), 16)
        for at, now in enumerate(steps):
            arena.wait(now)
            assert (arena.values[now] == values[now]).all()
            assert (arena.ids[now] == data.ids[now]).all()
            coming = steps[at + 1] if at + 1 < len(steps) else np.empty(0, np.int64)
            arena.fetch(coming)
            arena.release(np.concatenate([now, coming]))


@pytest.mark.parametrize(("workers", "kept"), [(1, 7), (2, 3), (8, 0)])
def test_a_worker_keeps_its_share_of_what_fits(workers: int, kept: int, tmp_path: Path, holes: None) -> None:
    """In parts of four examples, of a limit of thirty."""
    width = 4096
    store, data = store_parts(tmp_path, noise((width,)))
    counting = Counting(store)
    arena = Arena(counting, data, data.inputs[0], NodeCache(str(tmp_path / "cache"), 30 * width, workers))
    for epoch in range(3):
        arena.wait(everyone())
        assert len(counting.reads) == (16 if epoch == 0 else 16 - kept)
        counting.reads.clear()
        arena.release(np.empty(0, np.int64))
        assert on_disk(arena) == kept * 4 * width


def test_copies_that_do_not_fit_keep_one_share_together(tmp_path: Path, holes: None) -> None:
    width = 4096
    views = [noise((width,), seed=view) for view in range(3)]
    store, data = store_views(tmp_path, views, [in_order(4)] * 3)
    cache = NodeCache(str(tmp_path / "cache"), 30 * width, 1)
    arenas = [Arena(store, data, features, cache) for features in data.inputs]
    for arena, side in zip(arenas, (everyone(), TRAIN, TRAIN), strict=True):
        arena.wait(side)
        arena.release(np.empty(0, np.int64))
    assert 0 < sum(map(on_disk, arenas)) <= 30 * width


def test_the_copies_that_fit_beside_each_other_are_shared(tmp_path: Path) -> None:
    store, data = store_views(tmp_path, [noise((100,), seed=view) for view in range(3)], [in_order(4)] * 3)
    cache = NodeCache(str(tmp_path / "cache"), 2 * 100 * EXAMPLES, 1)
    arenas = [Arena(store, data, features, cache) for features in data.inputs]
    assert [arena.shared for arena in arenas] == [True, True, False]


def folders(tmp_path: Path) -> set[Path]:
    return set((tmp_path / "cache").iterdir())


def copies(store: Store, data: Dataset, folder: Path, count: int) -> tuple[list[Arena], list[Path]]:
    """Of the first feature sets, used one after the other, and their folders."""
    arenas: list[Arena] = []
    paths: list[Path] = []
    for view in range(count):
        arenas.append(arena_of(store, data, folder, view=view))
        arenas[view].wait(TRAIN)
        paths += folders(folder) - set(paths)
        os.utime(paths[view], (view, view))
    return arenas, paths


def test_the_copies_that_were_used_longest_ago_are_deleted(tmp_path: Path) -> None:
    width = 2**14
    store, data = store_views(tmp_path, [noise((width,))] * 4, [in_order(4)] * 4)
    arenas, paths = copies(store, data, tmp_path, 4)
    again = arena_of(store, data, tmp_path, limit=int(2.5 * width * len(TRAIN)), view=1)
    assert folders(tmp_path) == {paths[1], paths[3]}
    assert again.shared
    arenas[2].wait(TRAIN)
    assert (arenas[2].values[TRAIN] == noise((width,))[TRAIN]).all()  # who has one keeps it


def test_older_copies_make_room_for_all_of_a_new_one(tmp_path: Path) -> None:
    width = 2**14
    store, data = store_views(tmp_path, [noise((width,))] * 4, [in_order(4)] * 4)
    paths = copies(store, data, tmp_path, 3)[1]
    limit = int(2.1 * width * EXAMPLES)
    arena_of(store, data, tmp_path, limit, view=3).wait(TRAIN)
    assert folders(tmp_path) - set(paths[:2]) == folders(tmp_path)
    assert sum(file.stat().st_blocks * 512 for file in (tmp_path / "cache").glob("*/*")) <= limit


def test_half_of_what_is_free_may_be_taken_where_no_limit_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken already counts as free, so that the limit stays when a run goes on."""
    store, data = store_parts(tmp_path, noise((4096,)))
    arena = arena_of(store, data, tmp_path)
    arena.wait(everyone())
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
    arena = arena_of(store, data, tmp_path, limit)

    def full(handle: int, content: Any, position: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(StorageError, match=rf"{tmp_path}/cache.*No space left.*THAW_CACHE.*train\.cache_limit"):
        arena.wait(np.array([1]))


def test_writes_that_end_early_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, data = store_parts(tmp_path, noise((4096,)))
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda handle, content, position: pwrite(handle, content[:1000], position))
    arena = arena_of(store, data, tmp_path)
    arena.wait(everyone())
    assert (arena.values == noise((4096,))).all()
