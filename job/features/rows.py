"""What is held of every example of a snapshot where all of them are gone through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Numbers of every example, in the order of the snapshot: 21 bytes each."""

    addresses: np.ndarray
    """job.features.store.ADDRESS [n]"""
    splits: np.ndarray
    """Index into SPLITS, int8 [n]."""
    labels: np.ndarray
    """Index into the classes, int32 [n]."""
