"""Turns the bytes of a text into word ids, with the same TensorFlow operations in training and in the exported model.

An id is a digest of the word, so that it depends on no vocabulary: new texts and other vectors change none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from job.data.sources.encoding import NAMES, as_utf8, guessed, is_utf8
from job.data.sources.signature import HEAD, describe

if TYPE_CHECKING:
    import tensorflow as tf

TOKENISER = 1
"""The version of the tokeniser, part of the key of stored ids: raise it when a text is divided into other words."""
NOT_UTF8 = "not UTF-8 text"
"""The beginning of the reasons for rejecting text in another encoding."""
READING = 2
"""The version of reading, part of the same key: raise it when other bytes are accepted or rejected as text."""
LONGEST = 64
"""Bytes of a text that are read for each of the `max_tokens` words; the rest of it is ignored."""
IDS = 2**62
"""Ids are 1 to IDS; 0 is padding."""
RULES = (
    ("[’‘ʼ`]", "'"),
    (r"n't\b", " n\x01t "),
    (r"'(s|re|ve|ll|d|m)\b", " \x01\\1 "),
    (r"[^\p{L}\p{M}\p{N}\x01]+", " "),
    ("\x01", "'"),
)
"""Patterns and their replacements in lower-case text, in this order. An apostrophe divides words. Contractions become
words of their own (do n't, it 's), as in the texts that GloVe's vectors were trained on.
"""


def inspect_text(encoded: bytes, encoding: str | None = None) -> str | None:
    """The reason why an object is no text; None where it can be decoded. A text without a byte order mark is in
    `encoding`, or in UTF-8 where that is None.
    """
    text = as_utf8(encoded, encoding)
    if not text:
        return "empty object"
    if is_utf8(text):
        return None
    if encoding is not None:
        return f"neither {encoding} (data.encoding) nor UTF-8 text"
    if known := guessed(encoded):
        return f"{NOT_UTF8} (most likely {NAMES[known]}; see data.encoding)"
    what = describe(encoded[:HEAD])
    return NOT_UTF8 if what.startswith(("text", "nothing", "blank")) else f"no text: it is {what}"


def decode_text(encoded: tf.Tensor, max_tokens: int) -> tf.Tensor:
    """The ids of the first words of a scalar string tensor, int64 [max_tokens], then zeros; usable in a tf.function."""
    import tensorflow as tf

    ids = ids_of_words(words_of(encoded, max_tokens))
    padded = tf.pad(ids, [[0, max_tokens - tf.size(ids)]])
    padded.set_shape([max_tokens])
    return padded


def words_of(encoded: tf.Tensor, max_tokens: int) -> tf.Tensor:
    """The first words of a scalar string tensor, string [k], k <= max_tokens.

    Lower case; a word is a run of letters, marks and digits, or a contraction's second half. What is not UTF-8, and
    control characters, count as space. At most `LONGEST * max_tokens` bytes are looked at: a word that they cut short
    is left out.
    """
    import tensorflow as tf

    bound = LONGEST * max_tokens
    text = tf.strings.substr(encoded, 0, bound)
    spaces = {"errors": "replace", "replacement_char": ord(" "), "replace_control_characters": True}
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", **spaces)
    whole = tf.strings.regex_replace(text, r"\S*$", "")
    text = tf.where(tf.strings.length(encoded) > bound, whole, text)
    text = tf.strings.lower(text, encoding="utf-8")
    for pattern, replacement in RULES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    return tf.strings.split(text)[:max_tokens]


def ids_of_words(words: tf.Tensor) -> tf.Tensor:
    """int64, of the shape of `words` (strings): 1 + FarmHash's Fingerprint64 modulo IDS.

    Two of 2 million words have the same id with a chance of one in two million.
    """
    import tensorflow as tf

    return tf.strings.to_hash_bucket_fast(words, IDS) + 1
