"""What a network looked at: its answer with one part of the example hidden after another.

(Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks": where hiding a part lowers the
probability of the answer, the answer rests on it. It needs the exported model alone, whatever its layers are.)
"""

from __future__ import annotations

import numpy as np

from job.export.exported import PredictFunction

GRID = 8
"""Places of the hiding square on each side."""
COVER = 0.25
"""The side of the hiding square, as a fraction of the picture's."""
AT_ONCE = 16 * 224 * 224 * 3
"""Values of the inputs that the network takes at a time: 16 pictures of 224 pixels, all of one of 96."""


def hidden_squares(network: PredictFunction, pixels: np.ndarray, label: int) -> np.ndarray:
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


def left_out_words(network: PredictFunction, ids: np.ndarray, label: int) -> np.ndarray:
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


def _answers(network: PredictFunction, inputs: np.ndarray, label: int) -> np.ndarray:
    """Probabilities float32 [n] of one class."""
    batch = max(1, AT_ONCE // inputs[0].size)
    parts = [np.asarray(network(inputs[start : start + batch])) for start in range(0, len(inputs), batch)]
    return np.concatenate(parts)[:, label].astype(np.float32)
