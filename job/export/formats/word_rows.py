"""Networks of word vectors that take rows of a vocabulary, for formats that have neither strings nor 62-bit ids.

Row i is the word in line i of vocabulary.txt, counted from 1; 0 is padding, and every word that is not in it.
"""

from __future__ import annotations

import keras
import numpy as np

from job.model.flatten import flatten
from job.model.words import WordVectors


def word_layer(model: keras.Model) -> WordVectors | None:
    """The layer with the word vectors; None for networks of pictures, or with another layer for ids."""
    return next((layer for layer in model.layers if isinstance(layer, WordVectors)), None)


def ids_of(layer: WordVectors) -> np.ndarray:
    """The ids of the words that the layer knows, int64 [v], in the order of their rows."""
    return np.concatenate([ids.numpy() for ids, _ in layer.tables])


def rows_of(layer: WordVectors, ids: np.ndarray) -> np.ndarray:
    """The rows of these ids in the layer, int32, in the shape of `ids`; 0 for unknown ids."""
    known = ids_of(layer)
    order = np.argsort(known)
    at = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    return np.where(known[at] == ids, at + 1, 0).astype(np.int32)


def network_of_rows(model: keras.Model, layer: WordVectors) -> keras.Model:
    """The network from rows, int32 [n, L], to the outputs of `model` for the ids of these rows."""
    ops = keras.ops
    values = np.concatenate([values.numpy() for _, values in layer.tables])
    table = np.concatenate([np.zeros([1, layer.dimensions], np.float32), values])
    rows = keras.Input(model.input_shape[1:], dtype="int32", name="rows")
    embedding = keras.layers.Embedding(*table.shape, name="vectors")
    vectors = embedding(rows)
    embedding.set_weights([table])
    if layer.pooled:
        count = ops.sum(ops.cast(rows > 0, "float32"), axis=1, keepdims=True)
        features = ops.sum(vectors, axis=1) / ops.maximum(count, 1.0)
    else:
        features = ops.reshape(vectors, [-1, rows.shape[1] * layer.dimensions])
    return keras.Model(rows, flatten(keras.Model(layer.output, model.output), features), name=model.name)
