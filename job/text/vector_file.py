"""Reads files of word vectors, also packed: text with a word and its numbers a line (GloVe, fastText), or word2vec's
binary form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from job.data.sources.encoding import marked
from job.data.sources.signature import HEAD, as_text, describe
from job.data.sources.unpack import BROKEN, NotOneFile, unpacked
from job.errors import JobError

LINES = 8192
"""Words that are in memory at a time."""
LONGEST = 64 * 1024
"""Bytes of a line, or of a word in binary form, at most."""
CHUNK = 1 << 20
"""Bytes of a binary file that are read at a time."""
NUMBER = re.compile(rb"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)
"""A number with a fraction, which can't be meant as a word."""
HEADER = re.compile(rb"(\d{1,15}) (\d{1,15})")
"""The first line of word2vec and fastText, which has the number of words and of dimensions."""
CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1f]")
UTF8_MARK = b"\xef\xbb\xbf"
Entry = tuple[int, bytes, bytes]
"""The number of a line (or of a word in binary form), its word, and the encoded numbers, which `numbers` decodes."""


class VectorFile:
    """A local file of vectors, which errors call `name`. Every error is a JobError."""

    def __init__(self, path: str | Path, name: str) -> None:
        self.path, self.name = path, name
        self.dimensions, self.words = 0, 0
        self.skipped: dict[str, int] = {}
        """The number of entries whose word can't occur in a text, by reason."""
        self._binary = False

    def blocks(self) -> Iterator[list[Entry]]:
        """The entries whose words can occur in a text, in blocks of at most LINES."""
        try:
            with self._opened() as file:
                first = file.read(HEAD)
            self._check(first)
            with self._opened() as file:
                header = _header(first)
                self._binary = header is not None and CONTROLS.search(first, first.index(b"\n")) is not None
                entries = self._of_binary(file) if self._binary else self._of_lines(file)
                while block := list(islice(entries, LINES)):
                    yield block
        except BROKEN as error:
            raise JobError(f"model.weights: {self.name}: the file can't be read to its end: {error}.") from error
        if not self.words:
            raise JobError(f"model.weights: {self.name} has no vectors: it is empty.")

    def numbers(self, number: int, content: bytes) -> np.ndarray:
        """The numbers of an entry, float32 [dimensions]."""
        if self._binary:
            values = np.frombuffer(content, "<f4").astype(np.float32)
        else:
            try:
                with np.errstate(over="ignore"):
                    values = np.array(content.split(b" "), np.float32)
            except ValueError as error:
                raise self.error(number, f"holds something that is no number ({error})") from None
        if not np.isfinite(values).all():
            raise self.error(number, "holds a number that is not finite")
        return values

    def error(self, number: int, what: str) -> JobError:
        place = "word" if self._binary else "line"
        return JobError(
            f"model.weights: {self.name}: {place} {number} {what}. Fetch the file again, or remove the {place}."
        )

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with open(self.path, "rb") as file, unpacked(file) as plain:
                yield plain
        except NotOneFile as error:
            raise JobError(
                f"model.weights: {self.name} is {error}: unpack it, and name the file that has the vectors."
            ) from error

    def _check(self, first: bytes) -> None:
        """Raises JobError where the file is neither UTF-8 text nor binary with a header."""
        if not first or _header(first):
            return
        mark = marked(first)
        if mark not in (None, "utf-8-sig") or (as_text(first) is None and not first.startswith(UTF8_MARK)):
            what = f"text in {mark.upper()}" if mark else describe(first)
            raise JobError(
                f"model.weights: {self.name} is {what}: vectors are `word v1 … vn` a line in UTF-8 (GloVe's .txt, "
                "fastText's .vec), or word2vec's .bin."
            )

    def _of_lines(self, file: BinaryIO) -> Iterator[Entry]:
        for number, line in enumerate(self._lines(file), 1):
            entry = self._entry(number, line.removeprefix(UTF8_MARK) if number == 1 else line)
            if entry is not None:
                yield entry

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        number = 0
        while line := file.readline(LONGEST):
            number += 1
            if len(line) == LONGEST:
                raise JobError(f"model.weights: {self.name}: line {number} is longer than {LONGEST} bytes: no vectors.")
            yield line

    def _entry(self, number: int, line: bytes) -> Entry | None:
        """The entry of a line; None for an empty line, the header, or a word that can't occur in a text."""
        line = line.replace(b"\t", b" ").rstrip(b"\r\n ")
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
        if b" " in word and all(NUMBER.fullmatch(part) for part in word.split(b" ")[1:]):
            more = line.count(b" ")
            raise self.error(number, f"has {more} numbers and the first {self.dimensions}: dimensions are mixed")
        return self._usable(number, word, line[len(word) + 1 :])

    def _of_binary(self, file: BinaryIO) -> Iterator[Entry]:
        """The entries of the binary form: a header, then a word, a space and the numbers (little-endian float32)
        each.
        """
        header = _header(file.readline(LONGEST))
        assert header is not None
        count, self.dimensions = header
        if not 0 < 4 * self.dimensions <= CHUNK:
            raise JobError(f"model.weights: {self.name}: its first line says {self.dimensions} dimensions.")
        content, at, size = b"", 0, 4 * self.dimensions
        for number in range(1, count + 1):
            while (space := content.find(b" ", at)) < 0 or len(content) <= space + size:
                more = file.read(CHUNK)
                if not more or (space < 0 and len(content) - at > LONGEST):
                    raise self.error(number, f"is cut short: the file says that it has {count} words")
                content, at = content[at:] + more, 0
            word, at = content[at:space].lstrip(b"\n"), space + 1 + size
            self.words += 1
            entry = self._usable(number, word, content[space + 1 : at])
            if entry is not None:
                yield entry

    def _usable(self, number: int, word: bytes, numbers: bytes) -> Entry | None:
        if b" " in word:
            return self._skip("word with a space")
        try:
            word.decode()
        except UnicodeDecodeError:
            return self._skip("word that is not UTF-8")
        return number, word, numbers

    def _skip(self, why: str) -> Entry | None:
        self.skipped[why] = self.skipped.get(why, 0) + 1
        return None


def _header(first: bytes) -> tuple[int, int] | None:
    line, end, _ = first.replace(b"\t", b" ").partition(b"\n")
    match = HEADER.fullmatch(line.rstrip(b"\r ")) if end else None
    return (int(match[1]), int(match[2])) if match else None
