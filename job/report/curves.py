"""Curves as SVG files: what a sweep has found, and what the learning rates of a run were chosen by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from job.report.axes import Axis, linear, logarithmic, shares, steps
from job.report.svg import Chart, svg_file
from job.run.outcome import RangeTest
from job.wording import percent, plural, shortened

WIDTH, LEFT = 560, 52
"""Pixels of a chart, and of what is left of its plot."""


@dataclass(frozen=True)
class DepthSummary:
    """The runs of a sweep at one depth: means over their seeds, and the standard deviations (None for one run)."""

    blocks: int
    """The number of thawed blocks; 0 for the head alone."""
    runs: int
    parameters: int
    """Parameters that trained."""
    examples: int
    """Examples of the test split."""
    accuracy: float
    accuracy_deviation: float | None
    balanced_accuracy: float
    balanced_accuracy_deviation: float | None
    roc_auc: float | None
    roc_auc_deviation: float | None
    validation_loss: float
    validation_loss_deviation: float | None
    seconds: float
    """Seconds of the training epochs."""
    seconds_deviation: float | None


class _Depth(NamedTuple):
    blocks: int
    value: float
    spread: float


def depth_curve(depths: list[DepthSummary], name: str) -> bytes:
    """Test accuracy, and below it the seconds of training, against the blocks that were thawed. Bars are one standard
    deviation between seeds; of one seed, the standard error of an accuracy on so few examples.
    """
    runs = max(depth.runs for depth in depths)
    alone = runs == 1
    bars = f"the standard error of {depths[0].examples:,} examples" if alone else "their standard deviation"
    description = f"how deep to thaw ({plural(runs, 'seed')})"
    accuracies, seconds = ([_depth(depth, what, alone) for depth in depths] for what in ("accuracy", "seconds"))
    x = steps(accuracies[0].blocks, accuracies[-1].blocks, "blocks thawed, from the top (0: the head alone)")
    above = Chart(
        "accuracy on the test split",
        replace(x, label=""),
        shares(_ends(accuracies), f"accuracy on the test split; bars: {bars}"),
        title=f"{shortened(name, 32)}: {description}",
        width=WIDTH,
        left=LEFT,
    )
    below = Chart("seconds", x, linear([0, *_ends(seconds)], "training, s"), width=WIDTH, left=LEFT, plot=100)
    for chart, rows, written in ((above, accuracies, percent), (below, seconds, "{:,.1f} s".format)):
        chart.line([(row.blocks, row.value) for row in rows], "s2")
        for row in rows:
            low, high = (min(max(row.value + side, chart.y.low), chart.y.high) for side in (-row.spread, row.spread))
            ends = (row.blocks, low), (row.blocks, high)
            chart.interval(ends, (row.blocks, row.value), "s2", title=written(row.value))
    return svg_file(f"{name}: {description}", [above, below])


def _depth(depth: DepthSummary, what: str, alone: bool) -> _Depth:
    value, spread = getattr(depth, what), getattr(depth, f"{what}_deviation") or 0.0
    if alone and what == "accuracy":
        spread = math.sqrt(value * (1 - value) / depth.examples)
    return _Depth(depth.blocks, value, spread)


def _ends(rows: list[_Depth]) -> list[float]:
    return [row.value + side for row in rows for side in (-row.spread, row.spread)]


def range_curves(tests: dict[str, RangeTest]) -> bytes:
    """The loss against the learning rate of each phase's range test and the
    rate that was chosen.
    """
    return svg_file("Range tests of the learning rate", [_range_curve(phase, test) for phase, test in tests.items()])


def _range_curve(phase: str, test: RangeTest) -> Chart:
    from job.training.range_test import DIVERGED, smoothed

    rates, losses, chosen = test.rates, np.array(test.losses, float), test.learning_rate
    description = f"{phase}: range test of the learning rate"
    chart = Chart(
        description,
        logarithmic([*rates, chosen], "learning rate"),
        Axis(0.0, DIVERGED, [0, 0.5, 1, 1.5, 2], label="loss / the batch's loss before"),
        title=description,
        legend=[("curve each", "each step"), ("curve s2", "smoothed")],
        marks=[(chosen, f"learning rate {chosen:.2g}")],
        width=WIDTH,
        left=LEFT,
    )
    chart.line(zip(rates, losses.tolist(), strict=True), "each")
    chart.line(zip(rates, smoothed(losses).tolist(), strict=True), "s2")
    if not np.isfinite(losses).any():
        chart.note("no loss was finite")
    return chart
