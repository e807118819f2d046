from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from job.errors import CorruptFeatures
from job.features.dataset import Dataset
from job.storage import Store
from support.copied import EXAMPLES, TRAIN, Counting, cache_of, everyone, noise, scattered, store_parts, store_views


def with_offset(data: Dataset, offset: np.ndarray) -> Dataset:
    return replace(data, inputs=[replace(data.inputs[0], offset=offset)])


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
            cache = cache_of(store, data, tmp_path, limit, view)
            assert cache.shared == (limit is None)
            for asked in np.array_split(np.random.default_rng(view).permutation(side), 4):
                cache.wait(asked)
                assert cache.values[asked].tobytes() == views[view][asked].tobytes()
                assert (cache.ids[asked] == data.ids[asked]).all()
            assert cache.values[side].tobytes() == views[view][side].tobytes()
            assert (cache.values.dtype, cache.values.shape, cache.ids.dtype) == (dtype, (EXAMPLES, *shape), np.int64)


def test_ids_are_those_that_were_read_with_the_values(tmp_path: Path) -> None:
    """Not those of the data set: they prove what was read."""
    store, data = store_parts(tmp_path, noise((3,)))
    swapped = np.arange(EXAMPLES)
    swapped[[4, 5]] = [5, 4]
    cache = cache_of(store, with_offset(data, data.inputs[0].offset[swapped]), tmp_path)
    cache.wait(everyone())
    assert (cache.ids == data.ids[swapped]).all()
    assert (cache.ids != data.ids).sum() == 2
    assert (cache.values == noise((3,))[swapped]).all()


def test_a_part_is_read_once_and_only_where_it_is_needed(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    counting = Counting(store)
    cache = cache_of(counting, data, tmp_path)
    assert counting.reads == []
    cache.fetch(np.array([1, 2, 9]))
    cache.wait(np.array([9]))
    cache.wait(np.array([0, 1, 2, 3]))
    cache.wait(np.empty(0, np.int64))
    assert len(counting.reads) == 2
    cache.wait(everyone())
    assert len(counting.reads) == len(set(counting.reads)) == EXAMPLES / 4


def test_a_part_that_is_not_what_was_written_is_an_error_of_those_who_need_it(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    featurizer, part = data.inputs[0].featurizer, data.inputs[0].parts[data.inputs[0].part[8]]
    store.write(f"features/{featurizer.id}/{part.file}.arrow", b"something else")
    cache = cache_of(store, data, tmp_path)
    cache.fetch(everyone())
    cache.wait(np.arange(8))
    assert (cache.values[:8] == noise((3,))[:8]).all()
    for _ in range(2):
        with pytest.raises(CorruptFeatures) as caught:
            cache.wait(np.array([3, 8]))
        assert (caught.value.featurizer, caught.value.file) == (featurizer.id, part.file)


def test_a_part_with_fewer_rows_than_the_data_set_says_is_an_error(tmp_path: Path) -> None:
    store, data = store_parts(tmp_path, noise((3,)))
    offset = data.inputs[0].offset.copy()
    offset[9] = 4
    with pytest.raises(CorruptFeatures, match="rows are missing"):
        cache_of(store, with_offset(data, offset), tmp_path).wait(np.array([8]))


SECOND = """
import hashlib, os, signal, sys
import numpy as np
from job.features import cache as feature_cache
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import load_dataset
from job.storage import open_store

uri, cache, seed, writes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
feature_cache.READERS = 1 if writes else 8
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
data = load_dataset(store, "run", ["a", "b"], class_weights=None)
copy = FeatureCache(store, data, data.inputs[0], cache=NodeCache(cache, None, 2))
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
    cache = cache_of(counting, data, tmp_path)
    cache.wait(everyone())
    assert counting.reads == []
    assert (cache.values == values).all()
    assert (cache.ids == data.ids).all()


def test_what_a_killed_worker_has_half_copied_is_copied_again(tmp_path: Path) -> None:
    values = noise((40, 40))
    store, data = store_parts(tmp_path, values)
    killed = second_process(store, tmp_path, killed_at=28)  # the values of the tenth part of sixteen
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    counting = Counting(store)
    cache = cache_of(counting, data, tmp_path)
    cache.wait(everyone())
    assert len(counting.reads) == 7
    assert (cache.values == values).all()
    assert (cache.ids == data.ids).all()


def test_nothing_outlives_a_restart_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may have been lost that was written before the flag that says so."""
    store, data = store_parts(tmp_path, noise((3,)))
    cache_of(store, data, tmp_path).wait(everyone())
    monkeypatch.setattr("job.features.cache._boot", lambda: "another")
    counting = Counting(store)
    cache_of(counting, data, tmp_path).wait(everyone())
    assert len(counting.reads) == EXAMPLES / 4


def test_writes_that_end_early_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, data = store_parts(tmp_path, noise((4096,)))
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda handle, content, position: pwrite(handle, content[:1000], position))
    cache = cache_of(store, data, tmp_path)
    cache.wait(everyone())
    assert (cache.values == noise((4096,))).all()
