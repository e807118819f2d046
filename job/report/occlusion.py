"""What a network looked at: its answer with one part of the example hidden after another.

(Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks": where hiding a part lowers the
probability of the answer, the answer rests on it. It needs the exported model alone, whatever its layers are.)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from job.libraries import import_tensorflow
from job.report.manifest import download_files
from job.storage import Store
from job.storage.scratch import scratch

Network = Callable[[np.ndarray], Any]
"""Inputs [n, …] -> probabilities [n, classes]"""
GRID = 8
"""Places of the hiding square on each side."""
COVER = 0.25
"""Its side, as a fraction of the picture's."""
BATCH = 16


def load_exported(model: Store) -> Network:
    """`model.keras` of an export, compiled: pixels 0…255 float32 [n, S, S, 3], or ids of words int64 [n, L], to
    probabilities [n, classes].
    """
    with scratch() as folder:
        download_files(model, ("model.keras",), Path(folder))
        import_tensorflow()
        import keras
        import tensorflow as tf

        import job.model.words  # noqa: F401 - the layer of word vectors is registered there

        loaded = keras.saving.load_model(Path(folder, "model.keras"), safe_mode=True)
    return tf.function(lambda inputs: loaded(inputs, training=False))


def hidden_squares(network: Network, pixels: np.ndarray, label: int) -> np.ndarray:
    """By how much the probability of the class `label` falls where a square of the mean colour covers the picture,
    float32 [GRID, GRID], by the place of its centre; `pixels` uint8 [S, S, 3].
    """
    size = pixels.shape[0]
    half = COVER / 2 * size
    centres = (np.arange(GRID) + 0.5) / GRID * size
    edges = [(int(max(0, round(at - half))), int(min(size, round(at + half)))) for at in centres]
    covered = np.repeat(pixels[None].astype(np.float32), 1 + GRID * GRID, axis=0)
    colour = pixels.reshape(-1, 3).mean(axis=0)
    for row, (top, bottom) in enumerate(edges):
        for column, (left, right) in enumerate(edges):
            covered[1 + row * GRID + column, top:bottom, left:right] = colour
    chances = _answers(network, covered, label)
    return (chances[0] - chances[1:]).reshape(GRID, GRID)


def left_out_words(network: Network, ids: np.ndarray, label: int) -> np.ndarray:
    """By how much the probability of the class `label` falls without each word, float32 [k]; `ids` int64 [L], of which
    the first k are words and the rest is 0.
    """
    words = int(np.count_nonzero(ids))
    shortened = np.repeat(ids[None], 1 + words, axis=0)
    for place in range(words):
        shortened[1 + place, :-1] = np.delete(ids, place)
        shortened[1 + place, -1] = 0
    chances = _answers(network, shortened, label)
    return chances[0] - chances[1:]


def _answers(network: Network, inputs: np.ndarray, label: int) -> np.ndarray:
    """Probabilities float32 [n] of one class, computed BATCH by BATCH: one shape is compiled once."""
    found = []
    for start in range(0, len(inputs), BATCH):
        some = inputs[start : start + BATCH]
        padded = np.concatenate([some, np.zeros((BATCH - len(some), *some.shape[1:]), some.dtype)])
        found.append(np.asarray(network(padded))[: len(some), label])
    return np.concatenate(found).astype(np.float32)
