from __future__ import annotations

import numpy as np
import pytest

from job.evaluation.paired import compare


def right(n: int, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def test_the_gain_is_that_of_the_metric() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    candidate, reference = np.array([1, 1, 1, 1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 0, 0, 0, 1, 1], bool)
    plain = compare(labels, candidate, reference, classes=2, metric="accuracy", resamples=500, seed=0)
    assert (plain.candidate, plain.reference) == (7 / 8, 5 / 8)
    balanced = compare(labels, candidate, reference, classes=2, metric="balanced_accuracy", resamples=500, seed=0)
    assert (balanced.candidate, balanced.reference) == (0.75, 0.75)
    assert plain.drops.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy"])
def test_resamples_are_those_of_drawing_examples(metric: str) -> None:
    """Against the plain bootstrap, which draws indices."""
    labels = np.random.default_rng(1).integers(0, 3, 120)
    candidate, reference = right(120, 0.85, 2), right(120, 0.7, 3)

    def score(rows: np.ndarray, model: np.ndarray) -> float:
        if metric == "accuracy":
            return float(model[rows].mean())
        return float(np.mean([model[rows][labels[rows] == label].mean() for label in np.unique(labels[rows])]))

    random = np.random.default_rng(4)
    draws = [random.integers(0, 120, 120) for _ in range(4000)]
    plain = np.array([score(rows, candidate) - score(rows, reference) for rows in draws])
    found = compare(labels, candidate, reference, classes=3, metric=metric, resamples=4000, seed=0).gains  # type: ignore[arg-type]
    assert np.allclose(np.quantile(found, [0.05, 0.5, 0.95]), np.quantile(plain, [0.05, 0.5, 0.95]), atol=0.012)


def test_equal_models_are_not_better_beyond_noise() -> None:
    labels, model = np.zeros(200, int), right(200, 0.8, 0)
    same = compare(labels, model, model, classes=1, metric="accuracy", resamples=1000, seed=0)
    assert same.gain == 0
    assert same.least_gain(0.5) == 0


def test_a_large_gain_is_beyond_noise_and_a_lucky_one_is_not() -> None:
    labels, half = np.zeros(400, int), np.arange(400) % 2 == 0
    better, lucky = half.copy(), half.copy()
    better[1:80:2] = True
    lucky[1] = True
    assert compare(labels, better, half, classes=1, metric="accuracy", resamples=2000, seed=0).least_gain(0.95) > 0.05
    assert compare(labels, lucky, half, classes=1, metric="accuracy", resamples=2000, seed=0).least_gain(0.95) == 0


def test_a_class_that_falls_is_named_and_one_mistake_in_three_is_not() -> None:
    labels = np.repeat([0, 1, 2], [300, 100, 3])
    reference, candidate = np.ones(403, bool), np.ones(403, bool)
    candidate[300:330] = False
    candidate[402] = False
    compared = compare(labels, candidate, reference, classes=4, metric="accuracy", resamples=2000, seed=0)
    assert compared.fallen(0.05, 0.95) == [1]
    assert compared.fallen(0.35, 0.95) == []
    assert np.isnan(compared.drops[3]), "a class without examples"


def test_the_same_seed_draws_the_same() -> None:
    labels, first, second = np.zeros(50, int), right(50, 0.6, 0), right(50, 0.5, 1)
    one, other = (compare(labels, first, second, classes=1, metric="accuracy", resamples=200, seed=7) for _ in range(2))
    assert (one.gains == other.gains).all()
