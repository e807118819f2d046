"""Features in a store of this machine, and a node's copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, load_dataset, write_dataset
from job.features.store import stored_features
from job.storage import Store, open_store
from support.stored import CLASSES, examples_of, featurizer_of, write_part

EXAMPLES = 64
TRAIN = np.setdiff1d(np.arange(EXAMPLES), np.arange(0, EXAMPLES, 5))


class Counting:
    """A store that remembers what was read from it."""

    def __init__(self, store: Store) -> None:
        self.store, self.reads = store, []

    def read_range(self, key: str, start: int, count: int, *, version: str | None = None) -> bytes:
        self.reads.append((key, start))
        return self.store.read_range(key, start, count, version=version)

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
            write_part(store, featurizer, examples.addresses[chosen], values=values[chosen])
        found.append((featurizer, stored_features(store, featurizer)))
    write_dataset(
        store, "run", CLASSES, examples=examples, accepted=np.ones(EXAMPLES, np.bool_), pooled=[], inputs=found
    )
    return store, load_dataset(store, "run", CLASSES, class_weights=None)


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


def cache_of(store: Any, data: Dataset, folder: Path, limit: int | None = None, view: int = 0) -> FeatureCache:
    return FeatureCache(store, data, data.inputs[view], cache=NodeCache(str(folder / "cache"), limit, 1))


def everyone() -> np.ndarray:
    return np.arange(EXAMPLES)
