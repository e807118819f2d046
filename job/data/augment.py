"""Random changes of training images, a pure function of (seed, epoch, example)."""

from __future__ import annotations

import numpy as np

from job.config import Augment


class Flips:
    """Flips whole images left-right and upside-down, each with probability one half where asked for."""

    def __init__(self, augment: Augment, examples: int, seed: int, epoch: int) -> None:
        random = np.random.Generator(np.random.Philox(key=[seed, 2**32 + epoch])).random((2, examples)) < 0.5
        self._horizontal = random[0] & augment.flip_horizontal
        self._vertical = random[1] & augment.flip_vertical

    def __call__(self, images: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Changes `images` uint8 [n, h, w, 3] of `examples` int64 [n] in place and returns them."""
        across, down = self._horizontal[examples], self._vertical[examples]
        images[across] = images[across][:, :, ::-1]
        images[down] = images[down][:, ::-1]
        return images
