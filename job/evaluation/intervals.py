"""The figures about a model in the report page and the card, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from job.evaluation.metrics import roc_auc
from job.evaluation.paired import compare
from job.evaluation.predictions import Predictions
from job.training.measure import RESAMPLES, resampled

CONFIDENCE = 0.95
Z = 1.959964
"""The quantile of the normal distribution at CONFIDENCE."""
BINS = 10
"""Bins of the calibration curve, of equal width."""
MOST_GROUPS = 50
METHODS = {
    "accuracy": "Wilson",
    "balanced_accuracy": f"bootstrap, {RESAMPLES} resamples",
    "roc_auc": "DeLong, for two classes",
}


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassRow:
    """The figures of a class on the test split; None where there is nothing to divide by."""

    name: str
    support: int
    """The number of examples of this class."""
    predicted: int
    """The number of examples with this class as the answer."""
    precision: Interval | None
    recall: Interval | None


@dataclass(frozen=True)
class Bin:
    """The answers whose probability is between `low` and `high`."""

    low: float
    high: float
    count: int
    confidence: float
    """The mean probability of the answers."""
    right: Interval
    """The share of right answers."""


@dataclass(frozen=True)
class GroupRow:
    name: str
    examples: int
    accuracy: Interval


def wilson(hits: int, of: int) -> Interval:
    """The share hits / of (`of` > 0) and its score interval (Wilson 1927), valid also for few examples and near 0
    and 1.
    """
    share, square = hits / of, Z * Z / of
    middle, half = share + square / 2, Z * np.sqrt(share * (1 - share) / of + square / (4 * of))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return Interval(share, float(min(max(low, 0.0), share)), float(max(min(high, 1.0), share)))


def metric_intervals(predictions: Predictions, model: str, seed: int) -> dict[str, Interval | None]:
    """The intervals of accuracy, balanced_accuracy and roc_auc; None where there is none, see METHODS."""
    chances, right = predictions.chances[model], predictions.right(model)
    return {
        "accuracy": wilson(int(right.sum()), len(right)),
        "balanced_accuracy": _balanced(predictions.labels, right, chances.shape[1], seed=seed),
        "roc_auc": delong(chances[:, 1], predictions.labels == 1) if chances.shape[1] == 2 else None,
    }


def gain(predictions: Predictions, metric: str, seed: int) -> Interval | None:
    """The gain of fine-tuning over the head alone on the same examples, with its interval; None for a metric without a
    paired interval.
    """
    classes = predictions.chances["head"].shape[1]
    right, reference = predictions.right("fine_tune"), predictions.right("head")
    return paired_gain(predictions.labels, right, reference, classes=classes, metric=metric, seed=seed)


def paired_gain(
    labels: np.ndarray, right: np.ndarray, reference: np.ndarray, *, classes: int, metric: str, seed: int
) -> Interval | None:
    """The gain of one model over another on the same examples, with its interval by the paired bootstrap. `right` and
    `reference`, bool [n], say which answers of the two are right.
    """
    if metric not in ("accuracy", "balanced_accuracy"):
        return None
    compared = compare(
        labels,
        right,
        reference,
        classes=classes,
        metric=metric,  # type: ignore[arg-type]
        resamples=RESAMPLES,
        seed=seed,
    )
    low, high = np.quantile(compared.gains, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(compared.gain, float(low), float(high))


def delong(scores: np.ndarray, positive: np.ndarray) -> Interval | None:
    """The area under the ROC curve with the variance of DeLong et al. (1988); None where a class has no example."""
    area = roc_auc(scores, positive)
    if area is None:
        return None
    first, second = scores[positive], scores[~positive]
    over, under = _placements(first, second), 1 - _placements(second, first)
    variance = sum(float(np.var(part, ddof=1)) / len(part) for part in (over, under) if len(part) > 1)
    half = Z * np.sqrt(variance)
    return Interval(area, float(max(area - half, 0)), float(min(area + half, 1)))


def class_rows(confusion: Sequence[Sequence[int]], names: list[str]) -> list[ClassRow]:
    """A row for each class, in the order of the names; `confusion` has true classes in rows."""
    counts = np.array(confusion)
    rows = []
    for index, name in enumerate(names):
        support, predicted, right = (
            int(n) for n in (counts[index].sum(), counts[:, index].sum(), counts[index, index])
        )
        shares = [wilson(right, of) if of else None for of in (predicted, support)]
        rows.append(ClassRow(name, support, predicted, *shares))
    return rows


def calibration(chances: np.ndarray, labels: np.ndarray) -> tuple[list[Bin], float]:
    """The bins that have answers, and the expected calibration error (Guo et al. 2017): the mean distance between the
    probability of the answers and the share of them that is right.
    """
    top, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    place = np.minimum((top * BINS).astype(int), BINS - 1)
    bins = []
    for index in np.unique(place):
        inside = place == index
        count = int(inside.sum())
        share = wilson(int(right[inside].sum()), count)
        bins.append(Bin(index / BINS, (index + 1) / BINS, count, float(top[inside].mean()), share))
    error = sum(bin.count * abs(bin.confidence - bin.right.value) for bin in bins) / len(labels)
    return bins, float(error)


def group_rows(groups: list[str | None], right: np.ndarray) -> list[GroupRow]:
    """A row for each group, the largest first; none where there are more than MOST_GROUPS. `groups` has the group of
    each example, `right`, bool [n], whether its answer is right.
    """
    names = np.array([group or "(none)" for group in groups], object)
    distinct = sorted(set(names))
    if len(distinct) > MOST_GROUPS:
        return []
    rows = []
    for name in distinct:
        inside = names == name
        rows.append(GroupRow(name, int(inside.sum()), wilson(int(right[inside].sum()), int(inside.sum()))))
    return sorted(rows, key=lambda row: -row.examples)


def confident_mistakes(predictions: Predictions, model: str, most: int) -> np.ndarray:
    """The positions of wrong answers, the most probable first, int [at most `most`]."""
    wrong = np.flatnonzero(~predictions.right(model))
    order = np.argsort(-predictions.chances[model][wrong].max(axis=1), kind="stable")
    return wrong[order][:most]


def right_answers(predictions: Predictions, model: str, most: int, *, seed: int) -> np.ndarray:
    """The positions of a random sample of right answers, int [at most `most`]."""
    right = np.flatnonzero(predictions.right(model))
    return np.sort(np.random.default_rng(seed).permutation(right)[:most])


def _balanced(labels: np.ndarray, right: np.ndarray, classes: int, *, seed: int) -> Interval:
    cells = np.zeros((classes, 2), np.int64)
    np.add.at(cells, (labels, right.astype(int)), 1)
    draws = resampled(cells.ravel(), RESAMPLES, seed).reshape(-1, classes, 2)
    low, high = np.quantile(_mean_recall(draws), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(_mean_recall(cells[None])[0]), float(low), float(high))


def _mean_recall(cells: np.ndarray) -> np.ndarray:
    """The mean recall of the drawn classes, float64 [draws], from counts [draws, classes, 2]."""
    support = cells.sum(axis=2)
    return (cells[:, :, 1] / np.maximum(support, 1)).sum(axis=1) / (support > 0).sum(axis=1)


def _placements(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of the others below each score, ties counting half, float64 [len(scores)]."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))
