"""The pretrained vectors of the words that a job has, from a file of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from job.data.text import ids_of_words
from job.text.vector_file import Entry, VectorFile


@dataclass
class Vectors:
    """What was found in a file of vectors."""

    ids: np.ndarray
    """Ids of the words that were wanted and are there, int64 [v], ascending."""
    values: np.ndarray
    """float32 [v, dimensions]"""
    dimensions: int
    words: int
    """How many words the whole file has."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Lines that stand for no word that a text could have, by reason."""


def read_vectors(path: str | Path, wanted: np.ndarray, name: str) -> Vectors:
    """The vectors of the words with these ids (int64, ascending) in a file of this machine, which errors call `name`.

    Memory is bounded by what is found. The first line says how many dimensions there are, and every other one must have
    as many. The numbers of a line are looked at only where its word is wanted. Of a word that is there twice, the first
    line counts. Raises JobError naming the line.
    """
    file, found = VectorFile(path, name), _Found(wanted)
    for entries in file.blocks():
        found.add(file, entries)
    return found.vectors(file)


def words_of_ids(path: str | Path, wanted: np.ndarray, name: str) -> dict[int, str]:
    """The words with these ids (int64) that such a file has. Raises JobError naming the line."""
    found: dict[int, str] = {}
    for entries in VectorFile(path, name).blocks():
        ids = ids_of_words([word for _, word, _ in entries]).numpy()
        for at in np.flatnonzero(np.isin(ids, wanted)):
            found.setdefault(int(ids[at]), entries[at][1].decode())
    return found


class _Found:
    """Collects the vectors of wanted words."""

    def __init__(self, wanted: np.ndarray) -> None:
        self._wanted = wanted
        self._values: dict[int, np.ndarray] = {}

    def add(self, file: VectorFile, entries: list[Entry]) -> None:
        if not len(self._wanted):
            return
        ids = ids_of_words([word for _, word, _ in entries]).numpy()
        for at in np.flatnonzero(np.isin(ids, self._wanted)):
            number, _, content = entries[at]
            if int(ids[at]) not in self._values:
                self._values[int(ids[at])] = file.numbers(number, content)

    def vectors(self, file: VectorFile) -> Vectors:
        ids = np.array(sorted(self._values), np.int64)
        values = np.array([self._values[int(id)] for id in ids], np.float32).reshape(len(ids), file.dimensions)
        return Vectors(ids, values, file.dimensions, file.words, file.skipped)
