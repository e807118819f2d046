"""A base of the user's own, small enough to train in a test."""

from __future__ import annotations

from pathlib import Path

import keras


def own_base(path: Path) -> bytes:
    """A `.keras` file: two blocks of convolution, batch normalization and ReLU, for images of 32 by 32.

    The same each time: from Python's global generator, which gives Keras its seeds, another thread may draw meanwhile.
    """
    layers = [keras.layers.Rescaling(1 / 255)]
    for index, (filters, seed) in enumerate(((8, 144272510), (16, 611178003))):
        drawn = keras.initializers.GlorotUniform(seed)
        layers.append(keras.layers.Conv2D(filters, 3, strides=2, kernel_initializer=drawn, name=f"conv_{index}"))
        layers += [keras.layers.BatchNormalization(name=f"norm_{index}"), keras.layers.ReLU()]
    keras.Sequential([keras.Input([32, 32, 3]), *layers]).save(path)
    return path.read_bytes()
