"""Reads the pretrained vectors of a job's words from a file of many vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from job.data.text import ids_of_words
from job.text.vector_file import Entry, VectorFile


@dataclass
class Vectors:
    """The vectors that were read from a file."""

    ids: np.ndarray
    """The ids of those requested words that are in the file, int64 [v], ascending."""
    values: np.ndarray
    """float32 [v, dimensions]"""
    dimensions: int
    words: int
    """The number of words in the whole file."""
    skipped: dict[str, int] = field(default_factory=dict)
    """The number of entries whose word can't occur in a text, by reason."""


def read_vectors(path: str | Path, ids: np.ndarray, name: str) -> Vectors:
    """The vectors of the words with these `ids` (int64, ascending) in a local file, which errors call `name`.

    Memory is bounded by the vectors that are returned. The first line sets the number of dimensions, and every other
    line must have as many. The numbers of a line are parsed only where its word is requested. For a word that is there
    twice, the first line counts. Raises JobError naming the line.
    """
    file, collected = VectorFile(path, name), _Collector(ids)
    for entries in file.blocks():
        collected.add(file, entries)
    return collected.vectors(file)


def words_of_ids(path: str | Path, ids: np.ndarray, name: str) -> dict[int, str]:
    """The words of these `ids` (int64) that are in such a file, by id. Raises JobError naming the line."""
    words: dict[int, str] = {}
    for entries in VectorFile(path, name).blocks():
        entry_ids = ids_of_words([word for _, word, _ in entries]).numpy()
        for at in np.flatnonzero(np.isin(entry_ids, ids)):
            words.setdefault(int(entry_ids[at]), entries[at][1].decode())
    return words


class _Collector:
    """Collects the vectors of the words with these ids."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids = ids
        self._values: dict[int, np.ndarray] = {}

    def add(self, file: VectorFile, entries: list[Entry]) -> None:
        if not len(self._ids):
            return
        entry_ids = ids_of_words([word for _, word, _ in entries]).numpy()
        for at in np.flatnonzero(np.isin(entry_ids, self._ids)):
            number, _, content = entries[at]
            if int(entry_ids[at]) not in self._values:
                self._values[int(entry_ids[at])] = file.numbers(number, content)

    def vectors(self, file: VectorFile) -> Vectors:
        ids = np.array(sorted(self._values), np.int64)
        values = np.array([self._values[int(id)] for id in ids], np.float32).reshape(len(ids), file.dimensions)
        return Vectors(ids, values, file.dimensions, file.words, file.skipped)
