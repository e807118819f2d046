"""Curves: what is written on them; the same numbers are the same bytes."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from job.report.curves import depth_curve, range_curves

RATES = [1e-5, 1e-4, 1e-3, 1e-2]
TEST = {"learning_rate": 1e-4, "rates": RATES, "losses": [1.0, 0.9, 0.5, None]}


def texts(drawn: bytes) -> str:
    return " ".join(ElementTree.fromstring(drawn).itertext())


def depth(blocks: int, runs: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "blocks": blocks, "runs": runs, "accuracy": 0.8 + blocks / 100, "accuracy_deviation": 0.01,
        "seconds": 9.0, "seconds_deviation": None, "examples": 1383, **more,
    }  # fmt: skip


def test_depths() -> None:
    drawn = depth_curve([depth(0), depth(2)], "cells")
    assert drawn == depth_curve([depth(0), depth(2)], "cells")
    assert "cells: how deep to thaw (3 seeds)" in texts(drawn)
    assert "bars: their standard deviation" in texts(drawn)
    assert "accuracy on the test split" in texts(drawn)
    alone = texts(depth_curve([depth(1, runs=1)], "cells"))
    assert "(1 seed)" in alone
    assert "bars: the standard error of 1,383 examples" in alone


def test_range_tests_of_both_phases_and_of_one_that_diverged() -> None:
    drawn = texts(range_curves({"head": TEST, "fine_tune": TEST}))
    for told in ("head: range test of the learning rate", "fine_tune: range test", "learning rate 0.0001"):
        assert told in drawn
    assert "fine_tune" not in texts(range_curves({"head": TEST}))
