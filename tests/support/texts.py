"""Small labelled texts that their words tell apart, and word vectors of most of these words, made from a seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CLASSES = ("cooking", "sailing")
WORDS = {
    "cooking": ["pan", "flour", "butter", "oven", "salt", "knife", "simmer", "sauce", "dough", "whisk", "pepper"],
    "sailing": ["mast", "harbour", "anchor", "keel", "wind", "tide", "rope", "deck", "rudder", "crew", "gale"],
}
COMMON = ["the", "a", "of", "and", "it", "don't", "we", "was", "with", "that", "is", "then", "very", "some", "old"]
UNKNOWN = "qwzx"
"""A word that has no vector."""
DIMENSIONS = 50


def text(index: int, label: str) -> str:
    """Twelve words, two or three of them of its class."""
    random = np.random.default_rng([index, CLASSES.index(label)])
    words = [*random.choice(COMMON, 9), *random.choice(WORDS[label], 2), UNKNOWN if index % 3 else "rope"]
    return " ".join(random.permutation(words)).capitalize() + "."


def folder_of(examples: int) -> dict[str, bytes]:
    """Objects by key in the layout `folders`."""
    labels = [CLASSES[i % 2] for i in range(examples)]
    return {f"{label}/text {i:03d}.txt": text(i, label).encode() for i, label in enumerate(labels)}


def lines_of(examples: int) -> bytes:
    """The same as JSON lines, with the keys of the folders."""
    rows = [{"key": key, "body": body.decode(), "kind": key.split("/")[0]} for key, body in folder_of(examples).items()]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def vectors(more: int = 200) -> bytes:
    """A file in GloVe's format: the words above, and others that occur nowhere."""
    random = np.random.default_rng(0)
    centres = {label: random.normal(size=DIMENSIONS) for label in CLASSES}
    lines = []
    for word in ("do", "n't", *COMMON, *(f"other{n}" for n in range(more))):
        lines.append((word, random.normal(size=DIMENSIONS) / 2))
    for label, words in WORDS.items():
        lines += [(word, centres[label] + random.normal(size=DIMENSIONS) / 2) for word in words]
    return "".join(f"{word} {' '.join(f'{x:.5f}' for x in vector)}\n" for word, vector in lines).encode()


def own_encoder(path: Path, words: int, rows: int) -> None:
    """Writes a network that makes rows of the ids of words, vectors of the rows, and something of their mean; the same
    each time.
    """
    import keras

    ids = keras.Input([words], dtype="int64")
    vectors = keras.initializers.RandomNormal(stddev=1.0, seed=906691060)
    table = keras.layers.Embedding(rows, 64, embeddings_initializer=vectors, name="table")
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(table(keras.layers.Hashing(rows, name="rows")(ids)))
    dense = keras.layers.Dense(64, kernel_initializer=keras.initializers.GlorotUniform(413654000), name="dense")
    keras.Model(ids, dense(mean)).save(path)
