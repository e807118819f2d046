"""Word vectors as far as they are needed: what of a file of vectors was read, and the words of a run.

vectors/<sha256 of the file>/file.json               dimensions, words, skipped; written when the file was first read
vectors/<sha256 of the file>/<sha256>.safetensors    asked (ids), ids and values of those that are in the file
runs/<run>/vocabulary.safetensors                    ids of the words that occur and have a vector, with their counts

What was read of a file only grows: new texts bring new words, and these alone are looked for in the file.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from job.errors import StorageError
from job.storage import Store, read_json
from job.storage.runs import RunKeys
from job.text.vectors import Vectors


def keep_vectors(store: Store, sha256: str, asked: np.ndarray, found: Vectors) -> None:
    """Adds what a file (by its sha256) answered to the ids that it was asked for, int64 [n]."""
    told = {"dimensions": found.dimensions, "words": found.words, "skipped": found.skipped}
    if len(asked):
        content = save({"asked": asked, "ids": found.ids, "values": found.values})
        store.write(f"{_folder(sha256)}{hashlib.sha256(content).hexdigest()}.safetensors", content)
    store.write(f"{_folder(sha256)}file.json", json.dumps(told).encode())


def described_vectors(store: Store, sha256: str) -> dict[str, Any]:
    """{dimensions, words, skipped} of a file that was read. Raises StorageError where it was not."""
    told = read_json(store, f"{_folder(sha256)}file.json")
    if told is None:
        raise StorageError(f"{store.uri}{_folder(sha256)} is gone: delete {store.uri}weights/resolved/ and run again.")
    return told


def kept_vectors(store: Store, sha256: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All that was asked of a file so far: ids asked, int64 [a] ascending; those found, int64 [v] ascending; and their
    values, float32 [v, d]. Raises StorageError.
    """
    dimensions = described_vectors(store, sha256)["dimensions"]
    asked, ids = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    values = [np.empty((0, dimensions), np.float32)]
    for info in store.list(_folder(sha256)):
        if info.key.endswith(".safetensors"):
            content = store.read(info.key)
            if f"{_folder(sha256)}{hashlib.sha256(content).hexdigest()}.safetensors" != info.key:
                raise StorageError(f"{store.uri}{info.key} is not what was written (sha256): delete it and run again.")
            part = load(content)
            for column, name in ((asked, "asked"), (ids, "ids"), (values, "values")):
                column.append(part[name])
    found, first = np.unique(np.concatenate(ids), return_index=True)
    return np.unique(np.concatenate(asked)), found, np.concatenate(values)[first]


def write_vocabulary(store: Store, run: str, ids: np.ndarray, train: np.ndarray) -> None:
    """The words of a run (ids int64 [v]) by how often they are in its train split (int64 [v]), the most frequent first;
    of equals, the lower id.
    """
    order = np.lexsort((ids, -train))
    store.write(RunKeys(run).vocabulary, save({"ids": ids[order], "train": train[order]}))


def read_vocabulary(store: Store, run: str) -> tuple[np.ndarray, np.ndarray]:
    """As `write_vocabulary` has ordered them."""
    stored = load(store.read(RunKeys(run).vocabulary))
    return stored["ids"], stored["train"]


def _folder(sha256: str) -> str:
    return f"vectors/{sha256}/"
