"""`learning_rate: auto`: the rate of a phase from a range test (Smith 2017, "Cyclical Learning Rates")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from job.run.outcome import RangeTest

RATES = np.geomspace(1e-6, 1.0, 61)
CYCLE = 8
"""Batches that the test goes round and round on, so that a loss is compared with the same batch's before."""
CALL = 4
"""Steps that are made in one call."""
DIVERGED = 2.0
"""The test ends where the loss has grown by this factor."""
MEMORY = 0.8
"""The weight of the earlier losses in the running mean that smooths them."""
MARGIN = 10.0
"""How far below the rate of the lowest loss the phase trains: as low as that rate may be the edge of divergence."""


def range_test(make_steps: Callable[[np.ndarray], np.ndarray], cycle: int) -> RangeTest:
    """Finds a rate for the whole phase.

    `make_steps` makes steps at these rates, float64 [k], each on the next batch of a cycle of `cycle`, and returns
    their losses. A first round at the rate 0 has the losses that all others are divided by, and fills the optimizer's
    moments. Then the rate rises with each step.
    """
    first = np.concatenate([make_steps(rates) for rates in _calls(np.zeros(cycle))])
    losses = np.empty(0)
    for rates in _calls(RATES):
        batches = (len(losses) + np.arange(len(rates))) % cycle
        losses = np.concatenate([losses, make_steps(rates) / np.maximum(first[batches], 1e-12)])
        smooth = smoothed(losses)
        if not np.isfinite(smooth).all() or smooth[-1] > DIVERGED:
            break
    smooth = np.where(np.isfinite(smooth), smooth, np.inf)
    chosen = float(RATES[int(smooth.argmin())] / MARGIN)
    finite = [float(loss) if np.isfinite(loss) else None for loss in losses]
    return RangeTest(chosen, RATES[: len(losses)].tolist(), finite)


def _calls(rates: np.ndarray) -> list[np.ndarray]:
    return [rates[first : first + CALL] for first in range(0, len(rates), CALL)]


def smoothed(losses: np.ndarray) -> np.ndarray:
    """float64 [k]: their mean so far, of which the latest count most (without a bias to the start)."""
    mean, means = 0.0, []
    for count, loss in enumerate(losses, start=1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        means.append(mean / (1 - MEMORY**count))
    return np.array(means)
