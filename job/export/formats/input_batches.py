"""Inputs as a network takes them, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BATCH = 16


def batches(inputs: np.ndarray, dtype: Any) -> Iterator[np.ndarray]:
    """[n, …] in parts of up to BATCH, each of this type."""
    for start in range(0, len(inputs), BATCH):
        yield inputs[start : start + BATCH].astype(dtype)
