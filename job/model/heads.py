"""The dense head on top of the frozen base."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job import config
from job.model.network import variables_by_path

ENCODER_UNITS = 128
"""Units of the layer that combines a text's word vectors into one vector."""


def build_head(
    features: int, head: config.Head, classes: int, *, seed: int, encoder: str = "mean", words: int = 0
) -> keras.Model:
    """The head: pooled features float32 [n, features] -> logits float32 [n, classes]. The same seed gives the same
    bytes.

    Layers: [`head_dense_i` (ReLU), `head_dropout_i`] for each hidden layer, then `head_logits`. With the `encoder`
    `conv` or `gru`, the features are the vectors of `words` words, and the layers of the encoder come first.
    """
    x = inputs = keras.Input([features], name="pooled_features")
    for layer in _encoder(encoder, features, words, seed=seed):
        x = layer(x)
    for index, units in enumerate(head.hidden):
        x = keras.layers.Dense(units, "relu", kernel_initializer=_glorot(seed, index), name=f"head_dense_{index}")(x)
        x = keras.layers.Dropout(head.dropout, name=f"head_dropout_{index}")(x)
    if not head.hidden:
        x = keras.layers.Dropout(head.dropout, name="head_dropout_0")(x)
    initializer = _glorot(seed, len(head.hidden))
    logits = keras.layers.Dense(classes, kernel_initializer=initializer, dtype="float32", name="head_logits")(x)
    return keras.Model(inputs, logits, name="head")


def take_over(head: keras.Model, weights: dict[str, np.ndarray], before: list[str], *, classes: list[str]) -> None:
    """Assigns the weights (by path) of another head with the same hidden layers and the classes `before`. The logits
    are taken over class by class; new classes keep their initial weights.
    """
    shared = [label for label in classes if label in before]
    here, there = [classes.index(label) for label in shared], [before.index(label) for label in shared]
    for path, variable in variables_by_path(head).items():
        value = weights[path]
        if path.startswith("head_logits/"):
            value = np.array(variable.numpy())
            value[..., here] = weights[path][..., there]
        variable.assign(value)


def head_logits(
    head: keras.Model, features: tf.Tensor, seed: tf.Tensor, *, positions: tf.Tensor, global_batch_size: int
) -> tf.Tensor:
    """The head's logits while training, float32 [n, classes].

    A dropout mask is a pure function of `seed` (int32 [2]), the layer, and the row's position in the global batch
    (int32 [n]), so that 1, 2 or 4 workers drop the same units of the same examples.
    """
    x = features
    for index, layer in enumerate(head.layers[1:]):
        if not isinstance(layer, keras.layers.Dropout):
            x = layer(x)
        elif layer.rate > 0:
            shape = [global_batch_size, x.shape[-1]]
            chances = tf.random.stateless_uniform(shape, seed + tf.constant([index, 0], seed.dtype))
            keep = tf.cast(tf.gather(chances, positions) >= layer.rate, x.dtype)
            x = x * keep / tf.cast(1.0 - layer.rate, x.dtype)
    return x


def _encoder(kind: str, features: int, words: int, *, seed: int) -> list[keras.layers.Layer]:
    if kind == "mean":
        return []
    layers, initializers = keras.layers, keras.initializers
    vectors = layers.Reshape([words, features // words], name="head_vectors")
    kernel: dict[str, Any] = {"kernel_initializer": initializers.GlorotUniform(seed=seed * 1000 + 999)}
    if kind == "conv":
        convolution = layers.Conv1D(ENCODER_UNITS, 3, padding="same", activation="relu", name="head_conv", **kernel)
        return [vectors, convolution, layers.GlobalMaxPooling1D(name="head_maxima")]
    kernel["recurrent_initializer"] = initializers.Orthogonal(seed=seed * 1000 + 998)
    # Unknown words are zeros between other vectors, which cuDNN's kernel does not support.
    recurrent = layers.GRU(ENCODER_UNITS, use_cudnn=False, name="head_gru", **kernel)
    return [vectors, layers.Masking(name="head_known"), recurrent]


def _glorot(seed: int, index: int) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=seed * 1000 + index)
