from __future__ import annotations

import math

import numpy as np
import pytest

from job.training.measure import CELLS, RESAMPLES, cross_entropies, score, share_of_gains


def test_losses_are_those_of_softmax_also_where_logits_are_large() -> None:
    logits = np.array([[0.0, np.log(3)], [1000.0, 0.0]], np.float32)
    assert cross_entropies(logits, np.array([1, 1])) == pytest.approx([np.log(4 / 3), 1000.0])
    assert score(logits, np.array([1, 1]), np.array([3.0, 1.0])) == pytest.approx(((3 * np.log(4 / 3) + 1000) / 4, 0.5))


@pytest.mark.parametrize(
    ("gains", "share"),
    [(np.full(9, 0.1), 1.0), (np.full(9, -0.1), 0.0), (np.zeros(9), 0.0)],
    ids=["all gain", "all lose", "nothing changes"],
)
def test_what_is_the_same_for_all_is_sure(gains: np.ndarray, share: float) -> None:
    assert share_of_gains(gains, 0) == share


@pytest.mark.slow
def test_noise_is_found_to_be_noise() -> None:
    """Of two models that are equally good, one looks better at 95 % in about 5 % of data sets."""
    random = np.random.default_rng(0)
    shares = np.array([share_of_gains(random.standard_normal(200), seed) for seed in range(1000)])
    assert np.mean(shares >= 0.95) == pytest.approx(0.05, abs=0.025)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)


def test_many_examples_are_drawn_in_groups_with_nearly_the_same_answer() -> None:
    gains = np.random.default_rng(1).standard_normal(20 * CELLS) + 0.01
    z = gains.mean() / (gains.std() / np.sqrt(len(gains)))
    normal = 0.5 * (1 + math.erf(z / math.sqrt(2)))
    assert share_of_gains(gains, 0) == pytest.approx(normal, abs=4 * math.sqrt(0.25 / RESAMPLES))
