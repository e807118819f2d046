"""The charts of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from job.evaluation.intervals import Bin, Interval
from job.report.axes import Axis, counts, in_percent, linear, logarithmic, round_ticks, shares, steps
from job.report.svg import Chart, Point, text_width
from job.wording import metric, percent

DECADES = 2.0
"""Powers of ten between the lowest and the highest loss, from which on the axis is logarithmic."""
ROOM = 360.0
"""Pixels of a plot's width, at least."""


class Curve(NamedTuple):
    style: str
    name: str
    points: list[Point]


def loss_chart(told: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]]) -> Markup | None:
    """The losses of both phases; None where there is none."""
    losses = [y for curve in curves for _, y in curve.points]
    if not losses:
        return None
    wide = min(losses) > 0 and math.log10(max(losses) / min(losses)) > DECADES
    return _learning(told, curves, marks, y=logarithmic(losses) if wide else linear(losses))


def accuracy_chart(told: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]]) -> Markup | None:
    """The accuracies of both phases; None where there is none."""
    accuracies = [y for curve in curves for _, y in curve.points]
    return _learning(told, curves, marks, y=shares(accuracies)) if accuracies else None


def _learning(told: str, curves: Sequence[Curve], marks: Sequence[tuple[float, str]], *, y: Axis) -> Markup:
    epochs = [*(x for curve in curves for x, _ in curve.points), *(x for x, _ in marks)]
    x = steps(round(min(epochs)), round(max(epochs)), "epochs, of both phases")
    legend = list({curve.name: (f"curve {curve.style}", curve.name) for curve in curves}.values())
    chart = Chart(told, x, y, legend=legend, marks=marks)
    for curve in curves:
        chart.line(curve.points, curve.style)
    return chart.svg()


class MetricIntervals(NamedTuple):
    """A metric, and its interval for each model."""

    name: str
    label: str
    intervals: dict[str, Interval]


def interval_chart(told: str, models: dict[str, str], rows: Sequence[MetricIntervals]) -> Markup:
    """For each metric and model a dot and its whisker, on one scale. `models`: what each is called."""
    styles = dict(zip(models, ("s1", "s2"), strict=False))
    lowest = min(interval.low for row in rows for interval in row.intervals.values())
    ticks = [tick for tick in round_ticks(min(lowest, 0.95), 1.0) if tick < 1 + 1e-9]
    middles = [len(rows) - place - 0.5 for place in range(len(rows))]
    labels = dict(zip(middles, (row.label for row in rows), strict=True))
    y = Axis(0, len(rows), middles, written=labels.__getitem__)
    legend = [(f"whisker {styles[model]}", name) for model, name in models.items()]
    chart = Chart(told, Axis(ticks[0], 1.0, ticks), y, legend=legend, plot=48 * len(rows))
    for tick in ticks:
        chart.line([(tick, 0), (tick, len(rows))], "grid")
    for middle, row in zip(middles, rows, strict=True):
        for place, (model, interval) in enumerate(row.intervals.items()):
            at = middle + (0.14 - 0.28 * place if len(models) > 1 else 0)
            words = f"{models[model]}: {metric(row.name, interval.value)}"
            ends = (interval.low, at), (interval.high, at)
            chart.interval(ends, (interval.value, at), styles[model], title=words)
    return chart.svg()


def calibration_chart(told: str, bins: Sequence[Bin]) -> Markup:
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x = Axis(0, 1, ticks, label="probability of the answer", written=in_percent)
    y = Axis(0, 1, ticks, label="share that is right", written=in_percent)
    chart = Chart(told, x, y, plot=280)
    chart.line([(0, 0), (1, 1)], "ideal")
    chart.line([(one.confidence, one.right.value) for one in bins], "s2")
    for one in bins:
        at, right = one.confidence, one.right
        chart.interval(((at, right.low), (at, right.high)), (at, right.value), "s2", title=percent(right.value))
    return chart.svg()


def bar_chart(told: str, bars: Sequence[tuple[str, int]]) -> Markup:
    """Counts by a name, in their order; as many of the names are written as have room."""
    y = counts(count for _, count in bars)
    every = math.ceil(len(bars) * (max(text_width(name) for name, _ in bars) + 12) / ROOM)
    names = {place + 0.5: name for place, (name, _) in enumerate(bars) if place % every == 0}
    chart = Chart(told, Axis(0, len(bars), list(names), written=names.__getitem__), y)
    for place, (name, count) in enumerate(bars):
        chart.bar(place + 0.1, place + 0.9, count, title=f"{name}: {count:,}")
    return chart.svg()


def block_strip(told: str, blocks: Sequence[tuple[str, str]], cut: int | None) -> Markup:
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
    head = f'<svg class="chart strip" {size} role="img" aria-label="{escape(told)}">'
    return Markup(head + "".join(parts) + "</svg>")
