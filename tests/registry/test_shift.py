from __future__ import annotations

import numpy as np

from job.registry.shift import shift_p_value


def vectors(n: int, seed: int, mean: float = 0.0, spread: float = 1.0, d: int = 20) -> np.ndarray:
    return (np.random.default_rng(seed).normal(mean, spread, (n, d))).astype(np.float32)


def p_value(before: np.ndarray, after: np.ndarray) -> float:
    """All of one class."""
    return shift_p_value(before, after, np.zeros(len(before), int), after_labels=np.zeros(len(after), int))


def test_the_p_value_is_uniform_where_nothing_has_shifted() -> None:
    """So that `retrain_when.shift` is the rate of false alarms."""
    values = [p_value(vectors(60, seed), vectors(20, 1000 + seed)) for seed in range(100)]
    assert 0.3 < np.mean(values) < 0.7
    assert np.mean(np.array(values) < 0.1) < 0.25


def test_a_shift_of_the_mean_and_one_of_the_spread_are_found() -> None:
    assert p_value(vectors(200, 0), vectors(60, 1, mean=0.7)) < 0.01
    assert p_value(vectors(200, 0), vectors(60, 1, spread=1.6)) < 0.01


def test_other_proportions_of_the_classes_are_no_shift() -> None:
    before = np.concatenate([vectors(100, 0), vectors(100, 1, mean=3)])
    labels = np.repeat([0, 1], 100)
    assert shift_p_value(before, vectors(40, 2), labels, after_labels=np.zeros(40, int)) > 0.05
    assert shift_p_value(before, vectors(40, 2), labels, after_labels=np.ones(40, int)) == 0.001, (
        "of the other class they would be"
    )


def test_a_shift_of_one_class_among_others_is_found() -> None:
    before = np.concatenate([vectors(100, 0), vectors(100, 1, mean=3)])
    after = np.concatenate([vectors(40, 2), vectors(40, 3, mean=3.7)])
    assert shift_p_value(before, after, np.repeat([0, 1], 100), after_labels=np.repeat([0, 1], 40)) < 0.01


def test_a_few_vectors_tell_nothing() -> None:
    assert p_value(vectors(200, 0), vectors(3, 1, mean=50)) == 1.0
    assert p_value(vectors(1, 0), vectors(300, 1, mean=50)) == 1.0
    assert shift_p_value(vectors(200, 0), vectors(20, 1), np.zeros(200, int), after_labels=np.ones(20, int)) == 1.0, (
        "a new class"
    )


def test_vectors_that_are_all_the_same_have_not_shifted() -> None:
    assert p_value(np.ones((30, 4), np.float32), np.ones((30, 4), np.float32)) == 1.0
