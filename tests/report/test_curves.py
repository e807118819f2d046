"""Curves: their points and what is written on them; the same numbers are the same bytes."""

from __future__ import annotations

import pytest

from job.report.curves import DepthSummary, depth_curve, range_curves
from job.run.outcome import RangeTest
from support.drawn import Drawn
from support.results import summary_of_depth

RATES = [1e-5, 1e-4, 1e-3, 1e-2]
TEST = RangeTest(learning_rate=1e-4, rates=RATES, losses=[1.0, 0.9, 0.5, None])


def texts(drawn: bytes) -> str:
    return Drawn(drawn.decode()).text


def depth(blocks: int, runs: int = 3) -> DepthSummary:
    return summary_of_depth(blocks, runs=runs, accuracy=0.8 + blocks / 100, examples=1383)


def test_depths() -> None:
    drawn = depth_curve([depth(0), depth(2)], "cells")
    assert drawn == depth_curve([depth(0), depth(2)], "cells")
    assert "cells: how deep to thaw (3 seeds)" in texts(drawn)
    assert "bars: their standard deviation" in texts(drawn)
    assert "accuracy on the test split" in texts(drawn)
    assert all(value in texts(drawn) for value in ("80.0 %", "82.0 %", "9.0 s"))
    chart = Drawn(drawn.decode())
    assert [len(points) for points in chart.curve("s2")] == [2, 2], "accuracy, and seconds"
    assert len(chart.all("whisker s2")) == 4
    alone = texts(depth_curve([depth(1, runs=1)], "cells"))
    assert "(1 seed)" in alone
    assert "bars: the standard error of 1,383 examples" in alone


def test_range_tests_of_both_phases_and_of_one_that_diverged() -> None:
    drawn = texts(range_curves({"head": TEST, "fine_tune": TEST}))
    for told in ("head: range test of the learning rate", "fine_tune: range test", "learning rate 0.0001"):
        assert told in drawn
    assert "fine_tune" not in texts(range_curves({"head": TEST}))


def test_a_range_test_has_its_losses_at_their_rates() -> None:
    test = RangeTest(learning_rate=0.01, rates=[0.001, 0.01, 0.1, 0.5], losses=[1.0, 0.75, 0.5, None])
    (points,) = Drawn(range_curves({"head": test}).decode(), log=(True, False)).curve("each")
    assert [round(loss, 2) for _, loss in points] == [1.0, 0.75, 0.5]
    assert [rate for rate, _ in points] == pytest.approx([0.001, 0.01, 0.1], rel=0.03)


def test_a_range_test_without_a_loss_says_so() -> None:
    test = RangeTest(learning_rate=1e-7, rates=RATES, losses=[None] * 4)
    assert "no loss was finite" in texts(range_curves({"head": test}))
