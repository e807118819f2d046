"""Small labelled images that a small network can tell apart, made from a seed."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CLASSES = ("green", "red")


def picture(index: int, label: str, size: int = 40, form: str = "PNG") -> bytes:
    """Noise, brighter in the channel of its class."""
    pixels = np.random.default_rng([index, CLASSES.index(label)]).integers(0, 160, (size, size + index % 7, 3))
    pixels[:, :, 1 if label == "green" else 0] += 80
    return encode(pixels.astype(np.uint8), form)


def encode(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def folder_of(examples: int) -> dict[str, bytes]:
    """Objects by key in the layout `folders`."""
    labels = [CLASSES[i % 2] for i in range(examples)]
    return {f"{label}/image {i:03d}.png": picture(i, label) for i, label in enumerate(labels)}
