"""Divides inputs of a network into small batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BATCH = 16


def batches(inputs: np.ndarray, dtype: Any) -> Iterator[np.ndarray]:
    """Yields inputs [n, …] in batches of at most BATCH, converted to this type."""
    for start in range(0, len(inputs), BATCH):
        yield inputs[start : start + BATCH].astype(dtype)
