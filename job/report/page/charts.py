"""Charts as SVG within the page: their colours are those of its theme (page.css), their words are text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from job.evaluation.intervals import Bin, Interval

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 22, 24, 40
Point = tuple[float, float]


@dataclass
class Chart:
    """Axes, and what is drawn between them; `told`: what the chart says, for who can't see it."""

    told: str
    x: Point
    y: Point
    height: int = HEIGHT
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)

    def text(self, x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> None:
        name = f"tick {style}".strip()
        self.parts.append(f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, points: Sequence[Point], style: str) -> None:
        path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(self.at(*p) for p in points))
        self.parts.append(f'<path class="{style}" d="{path}"/>')

    def dot(self, x: float, y: float, style: str, radius: float = 3.5) -> None:
        left, top = self.at(x, y)
        self.parts.append(f'<circle class="{style}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}"/>')

    def area(self, low: Point, high: Point, style: str, title: str = "") -> None:
        (left, bottom), (right, top) = self.at(*low), self.at(*high)
        inside = f"<title>{escape(title)}</title>" if title else ""
        size = f'width="{max(right - left, 0.5):.1f}" height="{max(bottom - top, 0):.1f}"'
        self.parts.append(f'<rect class="{style}" x="{left:.1f}" y="{top:.1f}" {size}>{inside}</rect>')

    def x_axis(self, label: str, ticks: Sequence[float], written: Callable[[float], str]) -> None:
        for tick in ticks:
            x, y = self.at(tick, self.y[0])
            self.text(x, y + 16, written(tick))
        self.text((LEFT + WIDTH - RIGHT) / 2, self.height - 6, label)

    def y_axis(self, ticks: Sequence[float], written: Callable[[float], str]) -> None:
        for tick in ticks:
            self.line([(self.x[0], tick), (self.x[1], tick)], "grid")
            x, y = self.at(self.x[0], tick)
            self.text(x - 6, y + 4, written(tick), "end")

    def svg(self) -> Markup:
        head = f'<svg class="chart" viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(self.told)}">'
        return Markup(head + "".join(self.parts) + "</svg>")


@dataclass(frozen=True)
class Curve:
    style: str
    points: list[Point]


def learning_chart(
    told: str, curves: list[Curve], marks: list[tuple[float, str]], last: float, written: Callable[[float], str]
) -> Markup | None:
    """Curves over all epochs, with vertical marks; None where there is nothing to draw."""
    values = [y for curve in curves for _, y in curve.points]
    if not values:
        return None
    ticks = nice_ticks(min(values), max(values))
    chart = Chart(told, (0, max(last, 1)), (ticks[0], ticks[-1]))
    chart.y_axis(ticks, written)
    whole = [tick for tick in nice_ticks(0, max(last, 1)) if tick == int(tick) and tick <= last]
    chart.x_axis("epochs, of both phases", whole, lambda tick: f"{tick:.0f}")
    for x, label in marks:
        chart.line([(x, ticks[0]), (x, ticks[-1])], "mark")
        left, top = chart.at(x, ticks[-1])
        chart.text(left, top - 8, label, "end" if left > 0.7 * WIDTH else "middle", "marked")
    for curve in curves:
        chart.line(curve.points, f"curve {curve.style}")
        if len(curve.points) == 1:
            chart.dot(*curve.points[0], f"dot {curve.style}")
    return chart.svg()


def interval_chart(told: str, rows: list[tuple[str, list[tuple[str, Interval]]]]) -> Markup:
    """For each row (a name, and its intervals with their styles) a dot and its whiskers, on one scale of shares."""
    lowest = min(interval.low for _, some in rows for _, interval in some)
    low = min(math.floor(lowest * 20) / 20, 0.95)
    height = TOP + BOTTOM + 56 * len(rows)
    chart = Chart(told, (low, 1.0), (0, len(rows)), height)
    for tick in nice_ticks(low, 1.0):
        if low - 1e-9 <= tick <= 1 + 1e-9:
            chart.line([(tick, 0), (tick, len(rows))], "grid")
            chart.text(chart.at(tick, 0)[0], height - BOTTOM + 16, f"{tick:.2g}")
    for place, (name, some) in enumerate(rows):
        middle = len(rows) - place - 0.5
        chart.text(LEFT, chart.at(low, middle + 0.28)[1], name, "start", "named")
        for offset, (style, interval) in enumerate(some):
            y = middle - 0.02 - 0.22 * offset
            chart.line([(interval.low, y), (interval.high, y)], f"whisker {style}")
            chart.dot(interval.value, y, f"dot {style}", 4.5)
    return chart.svg()


def calibration_chart(told: str, bins: list[Bin]) -> Markup:
    chart = Chart(told, (0, 1), (0, 1), 340)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    chart.y_axis(ticks, lambda tick: f"{tick:.0%}")
    chart.x_axis("probability of the answer", ticks, lambda tick: f"{tick:.0%}")
    chart.text(LEFT, TOP - 8, "share that is right", "start")
    chart.line([(0, 0), (1, 1)], "ideal")
    chart.line([(one.confidence, one.right.value) for one in bins], "curve s2")
    for one in bins:
        chart.line([(one.confidence, one.right.low), (one.confidence, one.right.high)], "whisker s2")
        chart.dot(one.confidence, one.right.value, "dot s2", 4)
    return chart.svg()


def bar_chart(told: str, bars: list[tuple[str, int]]) -> Markup:
    """Counts by a name, in their order."""
    ticks = nice_ticks(0, max(count for _, count in bars))
    chart = Chart(told, (0, len(bars)), (0, ticks[-1]))
    chart.y_axis(ticks, lambda tick: f"{tick:,.0f}")
    for place, (name, count) in enumerate(bars):
        chart.area((place + 0.1, 0), (place + 0.9, count), "column", f"{name}: {count:,}")
    ends = {0, len(bars) - 1} if len(bars) > 6 else set(range(len(bars)))
    for place in ends:
        anchor = "start" if place == 0 and len(bars) > 6 else "end" if len(bars) > 6 else "middle"
        x = {"start": 0, "end": len(bars)}.get(anchor, place + 0.5)
        chart.text(chart.at(x, 0)[0], HEIGHT - BOTTOM + 16, bars[place][0], anchor)
    return chart.svg()


def block_strip(told: str, blocks: list[tuple[str, str]], cut: int | None) -> Markup:
    """The network from its input (left) to the head: a box for each block (name, style); it is cut behind box `cut`."""
    wide, high, gap = 880, 72, 3
    each = (wide - 8) / len(blocks)
    parts = []
    for place, (name, style) in enumerate(blocks):
        at = f'x="{4 + place * each + gap / 2:.1f}" y="12" width="{max(each - gap, 1):.1f}" height="{high - 24}" rx="3"'
        parts.append(f'<rect class="block {style}" {at}><title>{escape(name)}</title></rect>')
    if cut is not None:
        x = 4 + (cut + 1) * each
        parts.append(f'<path class="cut" d="M{x:.1f} 0V{high}"/>')
    size = f'viewBox="0 0 {wide} {high}" preserveAspectRatio="none"'
    head = f'<svg class="chart strip" {size} role="img" aria-label="{escape(told)}">'
    return Markup(head + "".join(parts) + "</svg>")


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, of which the first is not above `low` and the last not below `high`."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
