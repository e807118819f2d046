from __future__ import annotations

import numpy as np
import pytest

from job.evaluation.metrics import evaluate, roc_auc


def test_metrics_of_a_small_case_by_hand() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.55, 0.45], [0.2, 0.8]], np.float32))
    metrics = evaluate(logits, np.array([0, 0, 0, 1, 1]))
    assert metrics.confusion == [[2, 1], [1, 1]]
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.roc_auc == pytest.approx(5 / 6)
    assert metrics.loss == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.45, 0.8]).mean(), rel=1e-5)


def test_ties_count_half() -> None:
    assert roc_auc(np.array([0.5, 0.5, 0.5]), np.array([True, False, True])) == 0.5


def test_area_equals_counting_pairs() -> None:
    random = np.random.default_rng(0)
    scores, positive = random.integers(0, 10, 60) / 10, random.random(60) < 0.4
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert roc_auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_a_class_without_examples_has_no_area_and_no_recall() -> None:
    metrics = evaluate(np.zeros((3, 3), np.float32), np.array([0, 0, 1]))
    assert metrics.roc_auc is None
    assert metrics.balanced_accuracy == 0.5
