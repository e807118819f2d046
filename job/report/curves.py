"""Curves as SVG, for a browser or a page: text stays text, and nothing in them depends on when they were drawn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE, FAINT, MARK = "#2563eb", "#93b4f5", "#b45309"


def depth_curve(depths: list[dict[str, Any]], name: str) -> bytes:
    """Test accuracy, and below it the seconds of training, against the blocks that were thawed. Bars are one standard
    deviation between seeds; of one seed, the standard error of an accuracy on so few examples. `depths` as
    `job.sweep` makes them.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    blocks = [depth["blocks"] for depth in depths]
    runs = max(depth["runs"] for depth in depths)
    alone = runs == 1
    bars_are = f"the standard error of {depths[0]['examples']:,} examples" if alone else "their standard deviation"
    with _drawing(7, 5.5) as (figure, buffer):
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
        for axes, what, label in ((above, "accuracy", "accuracy on the test split"), (below, "seconds", "training, s")):
            bars = [_spread(depth, what, alone) for depth in depths]
            axes.errorbar(blocks, [depth[what] for depth in depths], yerr=bars, marker="o", capsize=4, color=LINE)
            _plain(axes, label)
        above.set_title(f"{name}: how deep to thaw ({runs} seed{'' if alone else 's'})", loc="left")
        above.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        below.set_ylim(bottom=0)
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        below.set_xlabel(f"blocks thawed, from the top (0: the head alone)\nbars: {bars_are}")
    return buffer.getvalue()


def _spread(depth: dict[str, Any], what: str, alone: bool) -> float:
    if alone and what == "accuracy":
        return float(np.sqrt(depth[what] * (1 - depth[what]) / depth["examples"]))
    return depth[f"{what}_deviation"] or 0.0


def range_curves(tests: dict[str, dict[str, Any]]) -> bytes:
    """The loss against the learning rate of each phase's range test (as `job.training.range_test` makes them), and the
    rate that was chosen.
    """
    from job.training.range_test import DIVERGED, smoothed

    with _drawing(7, 1 + 3 * len(tests)) as (figure, buffer):
        for axes, (phase, test) in zip(figure.subplots(len(tests), 1, squeeze=False).flat, tests.items(), strict=True):
            rates, losses = test["rates"], np.array(test["losses"], float)
            axes.plot(rates, losses, color=FAINT, linewidth=1, label="each step")
            axes.plot(rates, smoothed(losses), color=LINE, label="smoothed")
            chosen = test["learning_rate"]
            axes.axvline(chosen, color=MARK, linestyle="--", label=f"learning rate {chosen:.2g}")
            axes.set_xscale("log")
            axes.set_title(f"{phase}: range test of the learning rate", loc="left")
            axes.set_xlabel("learning rate")
            axes.legend(frameon=False)
            axes.set_ylim(0, DIVERGED)
            _plain(axes, "loss / the batch's loss before")
    return buffer.getvalue()


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Figure, io.BytesIO]]:
    """A figure of so many inches, which is in the buffer afterwards."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "thaw", "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, buffer
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})


def _plain(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
