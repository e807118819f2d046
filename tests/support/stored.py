"""A data set whose features are in a store of this machine, made from arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from job.data.splits import SPLITS
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, Examples, load_dataset, write_dataset
from job.features.store import ADDRESS, Featurizer, Part, address_of, stored_features, write_file
from job.storage import Store, open_store

CLASSES = ["a", "b"]
POOLED = Featurizer("pooled", 0, "float32", (3,), {})


def examples_of(labels: np.ndarray, splits: dict[str, np.ndarray]) -> Examples:
    """Examples in the order of their numbers, which are their keys."""
    keys = [f"{i:06d}" for i in range(len(labels))]
    sides = np.empty(len(labels), np.int8)
    for split, members in splits.items():
        sides[members] = SPLITS.index(split)
    names = [CLASSES[label] for label in labels]
    table = pa.table({"key": keys, "version": ["1"] * len(keys), "label": names})
    addresses = np.array([address_of("test", key, "1") for key in keys], ADDRESS)
    hashes = np.arange(len(keys), dtype=np.uint64)
    return Examples(np.arange(len(keys)), table, sides, addresses, hashes)


def featurizer_of(tap: str, values: np.ndarray, view: int = 0, dtype: str | None = None) -> Featurizer:
    return Featurizer(tap, view, dtype or values.dtype.name, values.shape[1:], {"made by": "a test"})


def values_of(featurizer: Featurizer, examples: int) -> np.ndarray:
    """Every bit pattern is as likely: also infinities, subnormal numbers and NaN."""
    noise = np.random.default_rng(0).integers(0, 256, (examples, featurizer.bytes_per_example), np.uint8)
    return noise.view(featurizer.storage).reshape(examples, *featurizer.shape)


def split_up(examples: int) -> dict[str, np.ndarray]:
    """Of ten examples, seven train."""
    tens = np.arange(examples) % 10
    return {
        "train": np.flatnonzero(tens < 7),
        "validation": np.flatnonzero(tens == 7),
        "test": np.flatnonzero(tens > 7),
    }


def store_dataset(
    folder: Path,
    labels: np.ndarray,
    splits: dict[str, np.ndarray],
    pooled: list[np.ndarray],
    inputs: list[np.ndarray],
    tap: str = "image",
    part: int = 7,
) -> tuple[Store, Dataset]:
    """Writes values [n, …] by view, in parts of `part` examples, and the data set of a run called `run`."""
    store, examples = open_store(f"file://{folder}/store/"), examples_of(labels, splits)
    (folder / "store").mkdir(parents=True, exist_ok=True)
    found = []
    for name, views in (("pooled", pooled), (tap, inputs)):
        for view, values in enumerate(views):
            featurizer = featurizer_of(name, values, view)
            for start in range(0, len(labels), part):
                stretch = slice(start, start + part)
                write_part(store, featurizer, examples.addresses[stretch], values=values[stretch])
            found.append((featurizer, stored_features(store, featurizer)))
    accepted = np.ones(len(labels), np.bool_)
    write_dataset(
        store,
        "run",
        CLASSES,
        examples=examples,
        accepted=accepted,
        pooled=found[: len(pooled)],
        inputs=found[len(pooled) :],
    )
    return store, load_dataset(store, "run", CLASSES, class_weights=None)


def caches(
    store: Store, data: Dataset, folder: Path, limit: int | None = None, workers: int = 1
) -> tuple[list[FeatureCache], list[FeatureCache]]:
    """A node's copies: of the pooled features and of the inputs, by view."""
    cache = NodeCache(str(folder / "cache"), limit, workers)
    return tuple(
        [FeatureCache(store, data, found, cache=cache) for found in sets] for sets in (data.pooled, data.inputs)
    )  # type: ignore[return-value]


def write_part(
    store: Store,
    featurizer: Featurizer,
    addresses: np.ndarray,
    *,
    values: np.ndarray,
    rejects: Iterable[tuple[bytes, str]] = (),
) -> Part:
    """Stores a file of one part; without an example, of none."""
    parts = write_file(store, featurizer, [(addresses, values)] if len(addresses) else [], rejects=rejects)
    return parts[0] if parts else Part("", 0, 0, 0, "")
