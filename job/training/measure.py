"""How good a model is on some examples, and whether another one is better there beyond noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from job.run.events import Histogram

RESAMPLES = 2000
BINS = 30
"""Bins of a histogram."""
CELLS = 1024
"""Groups of examples that are alike, which resamples are drawn from where there are more examples."""


class Score(NamedTuple):
    loss: float
    """The weighted mean of the cross-entropy."""
    accuracy: float
    """The plain one."""


def cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The cross entropy of each example, float64 [n], from logits float32 [n, classes]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def score(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Score:
    """Loss and accuracy of logits float32 [n, classes]."""
    losses = cross_entropies(logits, labels)
    return Score(float(np.average(losses, weights=weights)), float(np.mean(logits.argmax(axis=1) == labels)))


def share_of_gains(gains: np.ndarray, seed: int) -> float:
    """The share of the resamples of float64 [n], drawn with replacement, whose sum is above 0: the paired bootstrap of
    two models on the same examples (Efron and Tibshirani 1993), where a gain is what an example's loss falls by.

    A resample is a draw of n from the multinomial distribution over the examples, or over CELLS groups of neighbours in
    their order, each with its mean.
    """
    cells = np.array_split(np.sort(gains), min(len(gains), CELLS))
    means, sizes = np.array([cell.mean() for cell in cells]), np.array([len(cell) for cell in cells])
    return float(np.mean(resampled(sizes, RESAMPLES, seed) @ means > 0))


def resampled(sizes: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How many examples of each cell are in each resample, int64 [resamples, cells], where cells of these sizes (int
    [cells]) are drawn from with replacement, as often as they have examples.
    """
    total = int(sizes.sum())
    return np.random.default_rng(seed).multinomial(total, sizes / total, size=resamples)


def histogram(values: np.ndarray) -> Histogram:
    """The histogram of the values, with BINS bins."""
    flat = values.astype(np.float64).ravel()
    counts, limits = np.histogram(flat, BINS)
    return Histogram(flat.size, float(flat.sum()), float(flat @ flat), limits, counts)
