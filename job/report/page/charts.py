"""The charts of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from job.evaluation.intervals import BINS, Bin, Interval
from job.report.axes import Axis, counts, in_percent, linear, logarithmic, round_ticks, shares, steps
from job.report.svg import Chart, Point, text_width
from job.wording import METRICS, NAMES, metric, percent

DECADES = 2.0
"""Powers of ten between the lowest and the highest loss, from which on the axis is logarithmic."""
ROOM = 360.0
"""Pixels of a plot's width, at least."""


class Curve(NamedTuple):
    style: str
    name: str
    points: list[Point]


def loss_chart(description: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]]) -> Markup | None:
    """The losses of both phases; None where there is none."""
    losses = [y for curve in curves for _, y in curve.points]
    if not losses:
        return None
    wide = min(losses) > 0 and math.log10(max(losses) / min(losses)) > DECADES
    return _learning(description, curves, marks, y=logarithmic(losses) if wide else linear(losses))


def accuracy_chart(description: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]]) -> Markup | None:
    """The accuracies of both phases; None where there is none."""
    accuracies = [y for curve in curves for _, y in curve.points]
    return _learning(description, curves, marks, y=shares(accuracies)) if accuracies else None


def _learning(description: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]], *, y: Axis) -> Markup:
    curves = [curve for curve in curves if curve.points]
    epochs = [*(x for curve in curves for x, _ in curve.points), *(x for x, _ in marks)]
    x = steps(round(min(epochs)), round(max(epochs)), "epochs, of both phases")
    legend = list({curve.name: (f"curve {curve.style}", curve.name) for curve in curves}.values())
    chart = Chart(description, x, y, legend=legend, marks=marks)
    for curve in curves:
        chart.line(curve.points, curve.style)
    return chart.svg()


def interval_chart(intervals: dict[str, dict[str, Interval | None]]) -> Markup:
    """For each metric a dot and its whisker of each model, on one scale. `intervals`: by model and metric."""
    styles = dict(zip(intervals, ("s1", "s2"), strict=False))
    names = [name for name in METRICS if any(known[name] for known in intervals.values())]
    known = [
        (model, name, interval) for model, by_name in intervals.items() for name in names if (interval := by_name[name])
    ]
    ticks = [
        tick for tick in round_ticks(min([0.95, *(interval.low for *_, interval in known)]), 1.0) if tick < 1 + 1e-9
    ]
    places = {name: len(names) - place - 0.5 for place, name in enumerate(names)}
    labels = {place: METRICS[name] for name, place in places.items()}
    chart = Chart(
        f"{' and '.join(NAMES[model] for model in styles)}: each metric of the table beside, with its 95 % interval",
        Axis(ticks[0], 1.0, ticks),
        Axis(0, len(names), list(labels), written=labels.__getitem__),
        legend=[(f"whisker {style}", NAMES[model]) for model, style in styles.items()],
        plot=48 * len(names),
    )
    for tick in ticks:
        chart.line([(tick, 0), (tick, len(names))], "grid")
    for model, name, interval in known:
        y = places[name] + (0 if len(styles) == 1 else 0.14 if styles[model] == "s1" else -0.14)
        words = f"{NAMES[model]}: {metric(name, interval.value)}"
        chart.interval(((interval.low, y), (interval.high, y)), (interval.value, y), styles[model], title=words)
    return chart.svg()


def calibration_chart(bins: Sequence[Bin], error: float) -> Markup:
    """The share of right answers against their probability. `error`: the expected calibration error."""
    description = (
        f"Calibration: the share of right answers in {BINS} ranges of probability; on average {percent(error)} apart"
    )
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x = Axis(0, 1, ticks, label="probability of the answer", written=in_percent)
    y = Axis(0, 1, ticks, label="share that is right", written=in_percent)
    chart = Chart(description, x, y, plot=280)
    chart.line([(0, 0), (1, 1)], "ideal")
    chart.line([(part.confidence, part.right.value) for part in bins], "s2")
    for part in bins:
        at, right = part.confidence, part.right
        chart.interval(((at, right.low), (at, right.high)), (at, right.value), "s2", title=percent(right.value))
    return chart.svg()


def bar_chart(description: str, bars: Sequence[tuple[str, int]]) -> Markup:
    """Counts by a name, in their order; as many of the names are written as have room."""
    y = counts(count for _, count in bars)
    every = math.ceil(len(bars) * (max(text_width(name) for name, _ in bars) + 12) / ROOM)
    names = {place + 0.5: name for place, (name, _) in enumerate(bars) if place % every == 0}
    chart = Chart(description, Axis(0, len(bars), list(names), written=names.__getitem__), y)
    for place, (name, count) in enumerate(bars):
        chart.bar(place + 0.1, place + 0.9, count, title=f"{name}: {count:,}")
    return chart.svg()


def block_strip(description: str, blocks: Sequence[tuple[str, str]], cut: int | None) -> Markup:
    """The network from its input (left) to the head: a box for each block (name, style); it is cut behind box `cut`."""
    wide, high = 880, 72
    each = (wide - 8) / len(blocks)
    gap = min(3.0, each / 5)
    parts = []
    for place, (name, style) in enumerate(blocks):
        at = f'x="{4 + place * each + gap / 2:.1f}" y="12" width="{each - gap:.1f}" height="{high - 24}" rx="{gap:.1f}"'
        parts.append(f'<rect class="block {style}" {at}><title>{escape(name)}</title></rect>')
    if cut is not None:
        parts.append(f'<path class="cut" d="M{4 + (cut + 1) * each:.1f} 0V{high}"/>')
    size = f'viewBox="0 0 {wide} {high}" preserveAspectRatio="none"'
    head = f'<svg class="chart strip" {size} role="img" aria-label="{escape(description)}">'
    return Markup(head + "".join(parts) + "</svg>")
