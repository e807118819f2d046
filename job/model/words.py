"""Pretrained word vectors as a network, from the ids of a text's words to the mean of their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

LAYER = "word_vectors"


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows. An id is 1 or more; 0 is padding."""

    ids: np.ndarray
    """The ids of the words, int64 [v]; first those that may train."""
    values: np.ndarray
    """The vectors of these words, float32 [v, d]."""
    trained: int = 0
    """The number of words, from the first on, that may train."""


@keras.saving.register_keras_serializable("thaw")
class WordVectors(keras.layers.Layer):
    """Maps ids, int64 [n, L], to the mean of the vectors of known words, float32 [n, d]; zeros where no word is known.

    With `pooled: False`, the outputs are all vectors, float32 [n, L * d], with zeros for unknown words and padding.

    The words that may train have a table of their own, so that no optimizer changes a bit of the others.
    """

    def __init__(self, trained: int, frozen: int, dimensions: int, *, pooled: bool, **more: Any) -> None:
        super().__init__(**{"dtype": "float32", "name": LAYER, **more})
        self.rows = {"trained": trained, "frozen": frozen}
        self.dimensions, self.pooled = dimensions, pooled

    def build(self, input_shape: Any) -> None:
        self.tables = []
        for name, rows in self.rows.items():
            if rows:
                ids = self.add_weight([rows], "zeros", "int64", trainable=False, name=f"{name}_ids")
                shape = [rows, self.dimensions]
                self.tables.append((ids, self.add_weight(shape, "zeros", trainable=name == "trained", name=name)))

    def know(self, vocabulary: Vocabulary) -> None:
        """Assigns the words and their vectors."""
        bounds = [0, vocabulary.trained] if vocabulary.trained else [0]
        for (ids, values), begin, end in zip(self.tables, bounds, [*bounds[1:], None], strict=False):
            order = np.argsort(vocabulary.ids[begin:end])
            ids.assign(vocabulary.ids[begin:end][order])
            values.assign(vocabulary.values[begin:end][order])

    def call(self, words: Any) -> Any:
        ops = keras.ops
        length = words.shape[1]
        asked = ops.reshape(words, [-1])
        vectors = ops.zeros([1, self.dimensions])
        known = ops.zeros([1])
        for ids, values in self.tables:
            rows = ops.minimum(ops.searchsorted(ids, asked), ids.shape[0] - 1)
            is_known = ops.cast(ops.take(ids, rows, axis=0) == asked, "float32")
            vectors = vectors + ops.take(values, rows, axis=0) * is_known[:, None]
            known = known + is_known
        if not self.pooled:
            return ops.reshape(vectors, [-1, length * self.dimensions])
        total = ops.sum(ops.reshape(vectors, [-1, length, self.dimensions]), axis=1)
        count = ops.sum(ops.reshape(known, [-1, length]), axis=1, keepdims=True)
        return total / ops.maximum(count, 1.0)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, int]:
        return input_shape[0], self.dimensions * (1 if self.pooled else input_shape[1])

    def get_config(self) -> dict[str, Any]:
        own = {**self.rows, "dimensions": self.dimensions, "pooled": self.pooled}
        return {**super().get_config(), **own}


def word_vectors(words: keras.KerasTensor, vocabulary: Vocabulary, pooled: bool) -> keras.KerasTensor:
    """The outputs of a new WordVectors layer with this vocabulary (one word or more) for `words`, int64 [n, L]."""
    total, dimensions = vocabulary.values.shape
    layer = WordVectors(vocabulary.trained, total - vocabulary.trained, dimensions, pooled=pooled)
    outputs = layer(words)
    layer.know(vocabulary)
    return outputs
