"""The few numbers of every example of a snapshot that fit in memory for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Numbers of every example in the order of the snapshot, 21 bytes each."""

    addresses: np.ndarray
    """Addresses in the feature store, job.features.store.ADDRESS [n]."""
    splits: np.ndarray
    """Indexes into SPLITS, int8 [n]."""
    labels: np.ndarray
    """Indexes into the classes, int32 [n]."""
