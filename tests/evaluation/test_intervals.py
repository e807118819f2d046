"""Intervals and what is counted, against cases by hand and against plain resampling."""

from __future__ import annotations

import numpy as np
import pytest

from job.evaluation.intervals import (
    calibration,
    class_rows,
    confident_mistakes,
    delong,
    gain,
    group_rows,
    metric_intervals,
    right_answers,
    wilson,
)
from job.evaluation.predictions import Predictions


def predictions(chances: np.ndarray, labels: np.ndarray) -> Predictions:
    return Predictions([str(i) for i in range(len(labels))], labels, {"head": chances, "fine_tune": chances})


def two_classes(examples: int, seed: int) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, examples)
    second = 1 / (1 + np.exp(-(2 * labels - 1 + random.normal(size=examples))))
    return predictions(np.stack([1 - second, second], axis=1), labels)


def test_wilson_as_in_tables() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    for hits, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        found = wilson(hits, of)
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert (wilson(29, 29).low, wilson(29, 29).high) == (pytest.approx(0.8830, abs=1e-4), 1)


def test_delong_is_what_resampling_says() -> None:
    found = two_classes(400, 0)
    scores, positive = found.chances["head"][:, 1], found.labels == 1
    interval = delong(scores, positive)
    assert interval is not None
    random = np.random.default_rng(1)
    areas = []
    for _ in range(1000):
        rows = random.integers(0, 400, 400)
        areas.append(delong(scores[rows], positive[rows]).value)  # type: ignore[union-attr]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])), abs=0.012)
    assert delong(scores, np.ones(400, bool)) is None


def test_the_true_accuracy_is_in_most_of_the_intervals() -> None:
    found = [metric_intervals(two_classes(150, seed), "head", seed) for seed in range(100)]
    truth = 0.8413  # a normal variable is above -1
    for name in ("accuracy", "balanced_accuracy"):
        inside = [one[name].low <= truth <= one[name].high for one in found]  # type: ignore[union-attr]
        assert 88 <= sum(inside) <= 100


def test_more_than_two_classes_have_no_interval_of_their_mean_area() -> None:
    chances = np.full((9, 3), 1 / 3)
    assert metric_intervals(predictions(chances, np.arange(9) % 3), "head", 0)["roc_auc"] is None


def test_a_class_that_is_never_answered_and_one_that_is_never_tested() -> None:
    rows = class_rows([[3, 1, 0], [0, 0, 0], [2, 0, 0]], ["a", "b", "c"])
    assert [(row.support, row.predicted) for row in rows] == [(4, 5), (0, 1), (2, 0)]
    assert rows[0].precision.value == 0.6  # type: ignore[union-attr]
    assert rows[0].recall.value == 0.75  # type: ignore[union-attr]
    assert rows[1].recall is None
    assert rows[2].precision is None


def test_calibration_by_hand() -> None:
    top = np.array([0.55, 0.55, 0.95, 0.95, 1.0])
    chances = np.stack([top, 1 - top], axis=1)
    bins, error = calibration(chances, np.array([0, 1, 0, 0, 1]))
    assert [(one.low, one.count, round(one.right.value, 3)) for one in bins] == [(0.5, 2, 0.5), (0.9, 3, 0.667)]
    assert error == pytest.approx((2 * 0.05 + 3 * abs(2.9 / 3 - 2 / 3)) / 5)


def test_groups_are_told_unless_there_are_too_many() -> None:
    right = np.array([True, False, True, True])
    rows = group_rows(["m1", "m1", None, "m2"], right)
    assert (rows[0].name, rows[0].examples, rows[0].accuracy.value) == ("m1", 2, 0.5)
    assert {row.name for row in rows} == {"m1", "m2", "(none)"}
    assert group_rows([str(i) for i in range(51)], np.ones(51, bool)) == []


def test_the_most_confident_mistakes_come_first_and_right_answers_are_a_sample() -> None:
    found = two_classes(200, 3)
    wrong = confident_mistakes(found, "head", 5)
    chances = found.chances["head"][wrong].max(axis=1)
    assert not found.right("head")[wrong].any()
    assert (np.diff(chances) <= 0).all()
    right = right_answers(found, "head", 12, seed=1)
    assert found.right("head")[right].all()
    assert list(right) == list(right_answers(found, "head", 12, seed=1))
    assert list(right) != list(right_answers(found, "head", 12, seed=2))


def test_a_gain_of_equal_models_is_none() -> None:
    same = gain(two_classes(50, 0), "accuracy", 0)
    assert (same.value, same.low, same.high) == (0, 0, 0)  # type: ignore[union-attr]
    assert gain(two_classes(50, 0), "roc_auc", 0) is None
