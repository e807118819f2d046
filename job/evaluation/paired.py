"""The paired bootstrap: whether one classifier is better than another on the same examples, beyond noise.

(Efron and Tibshirani, 1993, "An Introduction to the Bootstrap": examples are drawn with replacement, and both models
are measured on the same draw, so that the difficulty of the examples cancels out.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from job.training.measure import resampled

Metric = Literal["accuracy", "balanced_accuracy"]


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with a reference on the same examples."""

    candidate: float
    reference: float
    """The metric of the reference; `candidate` is that of the candidate."""
    gains: np.ndarray
    """candidate - reference in each resample, float64 [resamples]."""
    drops: np.ndarray
    """The fall in recall of each class, float64 [classes]; nan for a class without examples."""
    drop_resamples: np.ndarray
    """The fall in recall in each resample, float64 [resamples, classes]; 0 where the class was not drawn."""

    @property
    def gain(self) -> float:
        return self.candidate - self.reference

    def least_gain(self, confidence: float) -> float:
        """The lower bound of the gain at this confidence."""
        return float(np.quantile(self.gains, 1 - confidence, method="lower"))

    def fallen(self, tolerance: float, confidence: float) -> list[int]:
        """The classes whose recall falls by more than `tolerance`, and whose fall is beyond noise at this
        confidence.
        """
        sure = np.quantile(self.drop_resamples, 1 - confidence, axis=0, method="lower") > 0
        return [int(label) for label in np.flatnonzero((np.nan_to_num(self.drops) > tolerance) & sure)]


def compare(
    labels: np.ndarray,
    candidate: np.ndarray,
    reference: np.ndarray,
    *,
    classes: int,
    metric: Metric,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compares two models. `labels` is int [n]; `candidate` and `reference`, bool [n], say which of their answers are
    right.

    A resample of n examples with replacement is a draw from the multinomial distribution over the cells (class, right
    or wrong by each model), on which both metrics depend alone.
    """
    cells = np.zeros((classes, 2, 2), np.int64)
    np.add.at(cells, (labels, candidate.astype(int), reference.astype(int)), 1)
    draws = resampled(cells.ravel(), resamples, seed).reshape(-1, *cells.shape)
    first, second = _metrics(cells[None], metric)
    gains = np.subtract(*_metrics(draws, metric))
    drops = _drops(cells[None])[0]
    drops[cells.sum(axis=(1, 2)) == 0] = np.nan
    return Comparison(float(first[0]), float(second[0]), gains, drops, _drops(draws))


def _metrics(cells: np.ndarray, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """The metric of candidate and reference, float64 [resamples] each, from counts [resamples, classes, 2, 2]."""
    support = cells.sum(axis=(2, 3))
    right = cells[:, :, 1, :].sum(axis=2), cells[:, :, :, 1].sum(axis=2)
    if metric == "accuracy":
        first, second = (hits.sum(axis=1) / support.sum(axis=1) for hits in right)
    else:
        there = support > 0
        first, second = ((hits / np.maximum(support, 1)).sum(axis=1) / there.sum(axis=1) for hits in right)
    return first, second


def _drops(cells: np.ndarray) -> np.ndarray:
    lost = cells[:, :, 0, 1] - cells[:, :, 1, 0]
    return lost / np.maximum(cells.sum(axis=(2, 3)), 1)
