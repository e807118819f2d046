"""How a text is divided into words, and what it is refused for."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf

from job.data.forms import text_form
from job.data.text import LONGEST, READING, decode_text, ids_of_words, inspect_text, words_of


def words(text: str | bytes, max_tokens: int = 20) -> list[str]:
    encoded = text.encode() if isinstance(text, str) else text
    return [word.decode() for word in words_of(tf.constant(encoded), max_tokens).numpy()]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Cats, dogs.", ["cats", "dogs"]),
        ("Don't! It’s I'VE", ["do", "n't", "it", "'s", "i", "'ve"]),
        ("'quoted' o'clock rock'n'roll", ["quoted", "o", "clock", "rock", "n", "roll"]),
        ("École naïve ΣΟΦΌΣ 東京", ["école", "naïve", "σοφός", "東京"]),
        ("C++ e-mail 3.14 2nd", ["c", "e", "mail", "3", "14", "2nd"]),
        ("\x01n't \x01s", ["n't", "s"]),
        ("\ufeffmark\x00zero\tone\r\ntwo", ["mark", "zero", "one", "two"]),
        ("…!? \n", []),
        (b"\xff\xfeabc \xc3 d", ["abc", "d"]),
    ],
)
def test_words(text: str | bytes, wanted: list[str]) -> None:
    assert words(text) == wanted


def test_only_the_first_words_count() -> None:
    assert words("one two three", 2) == ["one", "two"]
    assert words("one " + " " * 2 * LONGEST + "two", 2) == ["one"]


def test_a_word_that_the_bound_cuts_short_is_left_out() -> None:
    assert words("a " + "b" * 2 * LONGEST, 2) == ["a"]
    assert words("é" * LONGEST, 1) == []
    exact = "b" * (LONGEST - 2) + " c"
    assert words(exact, 1) == ["b" * (LONGEST - 2)]
    assert words("x" * (LONGEST - 1) + " " + "y" * 9, 1) == ["x" * (LONGEST - 1)]


def test_a_text_of_a_million_words_takes_the_time_of_its_first() -> None:
    text = tf.constant(b"some words " * 500_000)
    decode = tf.function(lambda encoded: decode_text(encoded, 128), input_signature=[tf.TensorSpec([], tf.string)])
    decode(text)
    started = time.perf_counter()
    ids = decode(text).numpy()
    assert time.perf_counter() - started < 0.25
    assert len(ids) == 128
    assert len(set(ids.tolist())) == 2


def test_ids_are_padded_and_stay_what_they_are() -> None:
    ids = decode_text(tf.constant("The cat, the Cat"), 6)
    assert (ids.shape, ids.dtype) == ((6,), tf.int64)
    the, cat = 2392203249141657451, int(ids_of_words(tf.constant("cat")))
    np.testing.assert_array_equal(ids, [the, cat, the, cat, 0, 0])


def test_ids_of_many_words_are_positive_and_distinct() -> None:
    ids = ids_of_words(tf.constant([f"word{n}" for n in range(100_000)])).numpy()
    assert ids.min() > 0
    assert len(np.unique(ids)) == len(ids)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty object"),
        (b"caf\xe9", "not UTF-8 text (most likely Windows-1252; see data.encoding)"),
        (
            "words".encode("utf-16-le"),
            "not UTF-8 text (most likely UTF-16 (utf-16-le); see data.encoding)",
        ),
        ("кошка".encode("cp1251"), "not UTF-8 text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "no text: it is an old Office file or a Windows thumbnail cache"),
        ("café".encode(), None),
        ("café".encode("utf-16"), None),
        ("café".encode("utf-8-sig"), None),
    ],
)
def test_what_is_no_text(encoded: bytes, reason: str | None) -> None:
    assert inspect_text(encoded) == reason


@pytest.mark.parametrize(
    ("encoded", "encoding"),
    [
        ("Größe, 猫".encode("utf-16"), None),
        ("Größe, 猫".encode("utf-8-sig"), "cp1252"),
        ("猫はねる".encode("shift_jis"), "shift_jis"),
        ("кошка".encode("cp1251"), "cp1251"),
        ("cat".encode("utf-16-be"), "utf-16-be"),
    ],
)
def test_a_text_of_another_encoding_has_the_same_words(encoded: bytes, encoding: str | None) -> None:
    form = text_form(8, encoding)
    assert form.inspect(encoded) is None
    known = next(
        text for text in ("Größe, 猫", "猫はねる", "кошка", "cat") if words(text) == words(form.plain(encoded))
    )
    np.testing.assert_array_equal(form.decode(tf.constant(form.plain(encoded))), form.decode(tf.constant(known)))


def test_an_encoding_that_does_not_fit_refuses_what_is_no_utf8_either() -> None:
    assert inspect_text(b"\x81", "shift_jis") == "neither shift_jis (data.encoding) nor UTF-8 text"
    assert inspect_text("é".encode(), "ascii") is None


def test_an_encoding_is_part_of_what_names_stored_ids() -> None:
    assert text_form(8).meaning != text_form(8, "cp1252").meaning
    assert text_form(8).meaning["reading"] == READING
