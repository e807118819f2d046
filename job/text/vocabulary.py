"""Stores the word vectors that were read from a file, and the vocabularies of runs.

vectors/<sha256 of the file>/file.json               dimensions, words, skipped; written when the file was first read
vectors/<sha256 of the file>/<sha256>.safetensors    asked (ids), ids and values of those that are in the file
runs/<run>/vocabulary.safetensors                    ids of the words that occur and have a vector, with their counts

The vectors of a file only grow: new texts bring new words, and only these are looked up in the file.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from job.errors import StorageError
from job.storage import Store, read_json
from job.storage.run_keys import RunKeys
from job.text.vectors import Vectors


def keep_vectors(store: Store, sha256: str, asked: np.ndarray, *, vectors: Vectors) -> None:
    """Stores the vectors that a file (by its sha256) has for the ids that were looked up (`asked`, int64 [n])."""
    description = {"dimensions": vectors.dimensions, "words": vectors.words, "skipped": vectors.skipped}
    if len(asked):
        content = save({"asked": asked, "ids": vectors.ids, "values": vectors.values})
        store.write(f"{_folder(sha256)}{hashlib.sha256(content).hexdigest()}.safetensors", content)
    store.write(f"{_folder(sha256)}file.json", json.dumps(description).encode())


def described_vectors(store: Store, sha256: str) -> dict[str, Any]:
    """{dimensions, words, skipped} of a file of vectors. Raises StorageError where it was not read before."""
    description = read_json(store, f"{_folder(sha256)}file.json")
    if description is None:
        raise StorageError(f"{store.uri}{_folder(sha256)} is gone: delete {store.uri}weights/resolved/ and run again.")
    return description


def kept_vectors(store: Store, sha256: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everything that was read from a file so far: the ids that were looked up, int64 [a] ascending; those in the file,
    int64 [v] ascending; and their vectors, float32 [v, d]. Raises StorageError.
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
    known, first = np.unique(np.concatenate(ids), return_index=True)
    return np.unique(np.concatenate(asked)), known, np.concatenate(values)[first]


def write_vocabulary(store: Store, run: str, ids: np.ndarray, *, train: np.ndarray) -> None:
    """Stores the words of a run (ids, int64 [v]) with their counts in the train split (`train`, int64 [v]).

    They are ordered by count, the most frequent first; among equals, the lower id comes first.
    """
    order = np.lexsort((ids, -train))
    store.write(RunKeys(run).vocabulary, save({"ids": ids[order], "train": train[order]}))


def read_vocabulary(store: Store, run: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids and the counts that `write_vocabulary` has stored, in its order."""
    stored = load(store.read(RunKeys(run).vocabulary))
    return stored["ids"], stored["train"]


def _folder(sha256: str) -> str:
    return f"vectors/{sha256}/"
