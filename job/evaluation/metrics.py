"""The metrics of a model, from its logits on one split."""

from __future__ import annotations

import numpy as np

from job.run.outcome import Metrics


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """The metrics of logits, float32 [n, classes], for labels, int [n]."""
    chances = softmax(logits)
    predicted = chances.argmax(axis=1)
    classes = logits.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    support = confusion.sum(axis=1)
    recall = confusion.diagonal()[support > 0] / support[support > 0]
    picked = np.maximum(chances[np.arange(len(labels)), labels], np.finfo(np.float64).tiny)
    return Metrics(
        examples=len(labels),
        accuracy=float(np.mean(predicted == labels)),
        balanced_accuracy=float(recall.mean()),
        roc_auc=_mean_auc(chances, labels),
        loss=float(-np.log(picked).mean()),
        confusion=confusion.tolist(),
    )


def wrong_answers(confusion: list[list[int]]) -> list[tuple[int, int]]:
    """The pairs (true class, wrong answer) that occur, as indexes; `confusion` is that of `Metrics`."""
    return [
        (true, answer)
        for true, row in enumerate(confusion)
        for answer, count in enumerate(row)
        if count and true != answer
    ]


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities of logits, float64 [n, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The probability that a positive example scores above a negative one, ties counting half (Mann and Whitney)."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _mean_auc(chances: np.ndarray, labels: np.ndarray) -> float | None:
    scored = [1] if chances.shape[1] == 2 else range(chances.shape[1])
    areas = [roc_auc(chances[:, label], labels == label) for label in scored]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if len(known) == len(areas) else None
