"""Files of word vectors as they are found, and as they are broken."""

from __future__ import annotations

import bz2
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from job.data.text import ids_of_words
from job.errors import JobError
from job.text.vectors import Vectors, read_vectors, words_of_ids
from support.fuzz_tables import zip_of

LINES = ["the 0.1 -0.2 3e-05", "cat 1.0 2.0 3.0", "n't 4 5 6.5"]


def ids(*words: str) -> np.ndarray:
    return np.sort(ids_of_words(tf.constant(words)).numpy())


def binary_of(lines: list[str], end: bytes) -> bytes:
    """In word2vec's binary form."""
    rows = [line.split(" ") for line in lines]
    packed = [f"{word} ".encode() + np.array(numbers, "<f4").tobytes() + end for word, *numbers in rows]
    return f"{len(rows)} {len(rows[0]) - 1}\n".encode() + b"".join(packed)


def read(folder: Path, content: bytes | list[str], *wanted: str, name: str = "vectors.txt") -> Vectors:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode() + b"\n")
    return read_vectors(path, ids(*wanted) if wanted else np.empty(0, np.int64), name)


def test_only_what_is_wanted_is_kept(tmp_path: Path) -> None:
    found = read(tmp_path, LINES, "cat", "n't", "dog")
    assert (found.dimensions, found.words, found.skipped) == (3, 3, {})
    np.testing.assert_array_equal(found.ids, ids("cat", "n't"))
    row = dict(zip(found.ids.tolist(), found.values.tolist(), strict=True))
    assert row[int(ids("cat")[0])] == [1.0, 2.0, 3.0]
    assert row[int(ids("n't")[0])] == [4.0, 5.0, 6.5]
    assert found.values.dtype == np.float32


def test_nothing_wanted_still_tells_what_there_is(tmp_path: Path) -> None:
    found = read(tmp_path, LINES)
    assert (found.values.shape, found.words) == ((0, 3), 3)


def test_gzip_and_the_header_of_word2vec_are_read_too(tmp_path: Path) -> None:
    plain = read(tmp_path, LINES, "cat")
    packed = read(tmp_path, gzip.compress("\n".join(["3 3", *LINES]).encode()), "cat")
    np.testing.assert_array_equal(plain.values, packed.values)
    assert packed.words == 3


def test_words_with_spaces_and_words_that_are_not_utf8_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = [*LINES, ". . . 0.5 0.5 0.5", "at name@domain.com 0.5 0.5 0.5", "3 4 0.5 0.5 0.5"]
    content = "\n".join(lines).encode() + b"\ncaf\xe9 0.1 0.2 0.3\n\ncat 9 9 9\r\n"
    found = read(tmp_path, content, "cat", "name")
    assert found.skipped == {"word with a space": 3, "word that is not UTF-8": 1}
    assert found.values.tolist() == [[1.0, 2.0, 3.0]], "of two lines of a word, the first counts"


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + "\n".join(LINES).encode(),
        b"3 3\r\n" + "\r\n".join(LINES).encode(),
        "\n".join(LINES).replace(" ", "\t").encode(),
        "\n".join(LINES).replace(" ", "\t", 1).encode(),
        bz2.compress("\n".join(LINES).encode()),
        zip_of({"glove.3d.txt": "\n".join(LINES).encode()}),
        binary_of(LINES, b""),
        binary_of(LINES, b"\n"),
        gzip.compress(binary_of(LINES, b"\n")),
    ],
    ids=["mark", "fastText", "tabs", "a tab", "bzip2", "zip", "word2vec", "word2vec with line ends", "word2vec gzip"],
)
def test_the_same_vectors_in_other_forms(content: bytes, tmp_path: Path) -> None:
    plain, found = (read(tmp_path, form, "the", "cat", "n't") for form in (LINES, content))
    assert (found.words, found.dimensions, found.skipped) == (3, 3, {})
    np.testing.assert_array_equal(found.ids, plain.ids)
    np.testing.assert_array_equal(found.values, plain.values)
    assert words_of_ids(tmp_path / "file", ids("cat"), "vectors") == {int(ids("cat")[0]): "cat"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("dog 0.1 0.2", "line 4 has 2 numbers and the first 3: it is cut short"),
        ("dog", "line 4 has 0 numbers and the first 3"),
        ("dog 0.1 0.2 0.3 0.4", "line 4 has 4 numbers and the first 3: dimensions are mixed"),
        ("dog 0.1 zero 0.3", "line 4 holds something that is no number"),
        ("dog 0.1 nan 0.3", "line 4 holds a number that is not finite"),
        ("dog 0.1 0.2 1e60", "line 4 holds a number that is not finite"),
    ],
)
def test_a_broken_line_is_named(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=rf"model\.weights: vectors\.txt: {told}"):
        read(tmp_path, [*LINES, line], "dog")


def test_numbers_are_looked_at_where_their_word_is_wanted(tmp_path: Path) -> None:
    assert read(tmp_path, [*LINES, "dog 0.1 zero 0.3"], "cat").words == 4


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no vectors"),
        (b"just\nwords\n", "line 1 is not `word v1 … vn`"),
        (b"two words\n", "line 1 holds something that is no number"),
        (b"x" * 200_000, "line 1 is longer than 65536 bytes"),
        (b"\xba\x16\x4f\x2f" + bytes(99), "is a fastText model .*: vectors are `word v1 … vn` a line"),
        (b"\x80\x04\x95" + bytes(99), "is a Python pickle"),
        ("the 0.1\n".encode("utf-16"), "is text in UTF-16"),
        (zip_of({"glove.50d.txt": b"", "glove.100d.txt": b""}), "2 files: glove.50d.txt, glove.100d.txt: unpack it"),
        (b"<html>\n403 Forbidden", "line 1 is not `word v1"),
        (binary_of(LINES, b"")[:-3], "word 3 is cut short: the file says that it has 3 words"),
        (b"3 0\n\0\0\0", "its first line says 0 dimensions"),
        (gzip.compress(b"the 0.1 0.2\n" * 1000, mtime=0)[:-20], "can't be read to its end"),
        (b"\x1f\x8b" + b"x" * 50, "can't be read to its end"),
    ],
)
def test_what_is_no_file_of_vectors(content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=told):
        read(tmp_path, content, "the")


@pytest.mark.slow
def test_memory_is_bounded_by_what_is_found(tmp_path: Path) -> None:
    """120 MB of vectors in a process that may take 64 MB more than it has with TensorFlow imported."""
    numbers = " ".join(["0.12345"] * 100)
    with (tmp_path / "file").open("w") as file:
        for number in range(150_000):
            file.write(f"word{number} {numbers}\n")
    code = f"""
import resource, sys
import numpy as np
import tensorflow as tf
from job.data.text import ids_of_words
from job.text.vectors import read_vectors
wanted = np.sort(ids_of_words(tf.constant([f"word{{n}}" for n in range(0, 150_000, 100)])).numpy())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_vectors({str(tmp_path / "file")!r}, wanted, "vectors")
print(found.values.shape, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shape, _, megabytes = done.stdout.strip().rpartition(" ")
    assert shape == "(1500, 100)"
    assert int(megabytes) < 64
