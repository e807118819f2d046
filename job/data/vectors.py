"""Reads pretrained word vectors in GloVe's text format, line by line: `word v1 … vn`, also gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from job.data.text import ids_of_words
from job.errors import JobError

LINES = 8192
"""Lines that are in memory at a time."""
LONGEST = 64 * 1024
"""Bytes of a line, at most."""
NUMBER = re.compile(rb"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
"""That can't be meant as a word."""
HEADER = re.compile(rb"\d+ \d+")
"""word2vec's first line, which has the number of words and of dimensions."""


@dataclass
class Vectors:
    """What was found in a file of vectors."""

    ids: np.ndarray
    """Of the words that were wanted and are there, int64 [v], ascending."""
    values: np.ndarray
    """float32 [v, dimensions]"""
    dimensions: int
    words: int
    """Of the whole file."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Lines that stand for no word that a text could have, by reason."""


def read_vectors(path: str | Path, wanted: np.ndarray, name: str) -> Vectors:
    """The vectors of the words with these ids (int64, ascending) in a file of this machine, which errors call `name`.

    Memory is bounded by what is found. The first line says how many dimensions there are, and every other one must have
    as many. The numbers of a line are looked at only where its word is wanted. Of a word that is there twice, the first
    line counts. Raises JobError naming the line.
    """
    reader, found = _Reader(name), _Found(wanted)
    for words in _blocks(path, reader):
        found.add(reader, words)
    return found.vectors(reader)


def words_of_ids(path: str | Path, wanted: np.ndarray, name: str) -> dict[int, str]:
    """The words with these ids (int64) that such a file has. Raises JobError naming the line."""
    found: dict[int, str] = {}
    for words in _blocks(path, _Reader(name)):
        ids = ids_of_words([word for _, word, _ in words]).numpy()
        for at in np.flatnonzero(np.isin(ids, wanted)):
            found.setdefault(int(ids[at]), words[at][1].decode())
    return found


def _blocks(path: str | Path, reader: _Reader) -> Iterator[list[tuple[int, bytes, bytes]]]:
    """Line number, word and its numbers, so many lines at a time."""
    try:
        with _opened(path) as file:
            lines = enumerate(_lines(file, reader.name), 1)
            while block := list(islice(lines, LINES)):
                words = [item for number, line in block if (item := reader.word(number, line)) is not None]
                if words:
                    yield words
    except (EOFError, zlib.error, OSError) as error:
        raise JobError(f"model.weights: {reader.name}: the file can't be read to its end: {error}.") from error
    if not reader.dimensions:
        raise JobError(f"model.weights: {reader.name} has no vectors: it is empty.")


class _Reader:
    """Divides lines into word and numbers."""

    def __init__(self, name: str) -> None:
        self.name, self.dimensions, self.words = name, 0, 0
        self.skipped: dict[str, int] = {}

    def word(self, number: int, line: bytes) -> tuple[int, bytes, bytes] | None:
        """Line number, word and its numbers; None where the line is none, or of no word that a text could have."""
        line = line.rstrip(b"\r\n ")
        if not line or (number == 1 and HEADER.fullmatch(line)):
            return None
        if not self.dimensions:
            self.dimensions = line.count(b" ")
            if not self.dimensions:
                raise self.error(number, "is not `word v1 … vn`: this is not GloVe's text format")
            self.numbers(number, line.partition(b" ")[2])
        word, *numbers = line.rsplit(b" ", self.dimensions)
        if len(numbers) < self.dimensions:
            raise self.error(number, f"has {len(numbers)} numbers and the first {self.dimensions}: it is cut short")
        self.words += 1
        if b" " in word:
            if all(NUMBER.fullmatch(part) for part in word.split(b" ")[1:]):
                more = line.count(b" ")
                raise self.error(number, f"has {more} numbers and the first {self.dimensions}: dimensions are mixed")
            return self._skipped("word with a space")
        try:
            word.decode()
        except UnicodeDecodeError:
            return self._skipped("word that is not UTF-8")
        return number, word, line[len(word) + 1 :]

    def numbers(self, number: int, text: bytes) -> np.ndarray:
        """float32 [dimensions]"""
        try:
            with np.errstate(over="ignore"):
                values = np.array(text.split(b" "), np.float32)
        except ValueError as error:
            raise self.error(number, f"holds something that is no number ({error})") from None
        if not np.isfinite(values).all():
            raise self.error(number, "holds a number that is not finite")
        return values

    def error(self, number: int, what: str) -> JobError:
        return JobError(f"model.weights: {self.name}: line {number} {what}. Fetch the file again, or remove the line.")

    def _skipped(self, why: str) -> tuple[int, bytes, bytes] | None:
        self.skipped[why] = self.skipped.get(why, 0) + 1
        return None


class _Found:
    """Collects the vectors of wanted words."""

    def __init__(self, wanted: np.ndarray) -> None:
        self._wanted = wanted
        self._values: dict[int, np.ndarray] = {}

    def add(self, reader: _Reader, lines: list[tuple[int, bytes, bytes]]) -> None:
        if not len(self._wanted):
            return
        ids = ids_of_words([word for _, word, _ in lines]).numpy()
        for at in np.flatnonzero(np.isin(ids, self._wanted)):
            number, _, text = lines[at]
            if int(ids[at]) not in self._values:
                self._values[int(ids[at])] = reader.numbers(number, text)

    def vectors(self, reader: _Reader) -> Vectors:
        ids = np.array(sorted(self._values), np.int64)
        values = np.array([self._values[int(id)] for id in ids], np.float32).reshape(len(ids), reader.dimensions)
        return Vectors(ids, values, reader.dimensions, reader.words, reader.skipped)


def _opened(path: str | Path) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise JobError(
                f"model.weights: {name}: line {number} is longer than {LONGEST} bytes: not GloVe's text format."
            )
        yield line
