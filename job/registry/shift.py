"""A kernel two-sample test, class by class: whether two sets of labelled feature vectors come from one distribution.

The statistic is the unbiased squared maximum mean discrepancy with a Gaussian kernel, whose width is the median
distance (Gretton, Borgwardt, Rasch, Schölkopf and Smola, 2012, "A Kernel Two-Sample Test", JMLR 13). It is summed over
the classes, weighted by the number of vectors of the second set. The p-value is that of a permutation test within the
classes, which is valid for any number of vectors, and for which other proportions of the classes are no shift.
"""

from __future__ import annotations

import numpy as np

PERMUTATIONS = 999
FEWEST = 8
"""The least number of vectors of the second set for a test."""


def shift_p_value(
    before: np.ndarray, after: np.ndarray, before_labels: np.ndarray, *, after_labels: np.ndarray, seed: int = 0
) -> float:
    """The p-value of the hypothesis that `after`, float32 [m, d], is distributed as `before`, float32 [n, d], given the
    labels, int [m] and [n]. It is 1 where there are too few vectors, and at least 1 / (PERMUTATIONS + 1).
    """
    points = np.concatenate([before, after]).astype(np.float64)
    labels, new = np.concatenate([before_labels, after_labels]), np.arange(len(points)) >= len(before)
    classes = [rows for label in np.unique(after_labels) if _enough(rows := np.flatnonzero(labels == label), new)]
    if sum(int(new[rows].sum()) for rows in classes) < FEWEST:
        return 1.0
    random, width = np.random.default_rng(seed), _median_distance(points)
    statistics = np.zeros(PERMUTATIONS + 1)
    for rows in classes:
        sides = new[rows]
        drawn = np.stack([sides, *(random.permutation(sides) for _ in range(PERMUTATIONS))]).astype(np.float64)
        statistics += sides.sum() * _discrepancies(_kernel(points[rows], width), drawn)
    return float(np.mean(statistics >= statistics[0] - 1e-12))


def _enough(rows: np.ndarray, new: np.ndarray) -> bool:
    return 2 <= int(new[rows].sum()) <= len(rows) - 2


def _squares(points: np.ndarray) -> np.ndarray:
    """The squared distances of all pairs, float64 [n, n]."""
    lengths = (points**2).sum(axis=1)
    return np.maximum(lengths[:, None] + lengths[None] - 2 * points @ points.T, 0)


def _median_distance(points: np.ndarray) -> float:
    """The median of the squared distances of all pairs."""
    return float(np.median(_squares(points)[np.triu_indices(len(points), 1)])) or 1.0


def _kernel(points: np.ndarray, width: float) -> np.ndarray:
    """The kernel of all pairs, with zeros on the diagonal, which the unbiased statistic leaves out."""
    kernel = np.exp(-_squares(points) / width)
    np.fill_diagonal(kernel, 0)
    return kernel


def _discrepancies(kernel: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The discrepancy of each draw, float64 [draws]. `sides`, float64 [draws, n + m], is 1 for the second set."""
    m = sides[0].sum()
    n = len(kernel) - m
    inner = sides @ kernel
    second = (inner * sides).sum(axis=1)
    across = (inner * (1 - sides)).sum(axis=1)
    first = kernel.sum() - second - 2 * across
    return first / (n * (n - 1)) + second / (m * (m - 1)) - 2 * across / (n * m)
