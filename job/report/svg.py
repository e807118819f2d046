"""Charts as SVG, written as text: axes with round ticks, lines, dots, bars, marks and a legend.

A chart stands in the page as it is (`Chart.svg`), or in a file of its own (`svg_file`). Its colours are those of
theme.css, which follow the reader's light or dark system; its words stay text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib.resources import files

from markupsafe import Markup, escape

from job.report.axes import Axis

Point = tuple[float, float]
LETTER, NARROW, WIDE = 7.7, 4.7, 12.0
"""Pixels that letters of 12 pixels take in the widest of the fonts in theme.css."""
NARROW_ONES, WIDE_ONES = frozenset(" fijlrt.,:;'|!()[]·"), frozenset("mwMW%@…")
LINE = 19
"""Pixels of a line of words."""


@dataclass
class Chart:
    """Axes, and what is drawn between them. `style` names a class of theme.css."""

    description: str
    """What the chart says, for who can't see it."""
    x: Axis
    y: Axis
    _: KW_ONLY
    title: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """For each line its style (`curve` or `whisker`, and which one) and its name."""
    marks: Sequence[tuple[float, str]] = ()
    """Vertical lines, with their names above them."""
    width: int = 440
    plot: int = 185
    """Pixels of the plot's height."""
    left: float = 0.0
    """Pixels left of the plot at least, for charts that stand below each other."""
    _plotted: list[str] = field(default_factory=list, init=False)
    """What ends at the plot's edges."""
    _over: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        names = [text_width(self.y.written(tick)) for tick in self.y.ticks]
        self._left, self._right = max(self.left, max(names, default=0) + 10), self.width - 18
        self._top = 0.0
        if self.title:
            self._text(0, self._line(), self.title, anchor="start", style="title")
        self._keys()
        if self.y.label:
            self._text(0, self._line(), self.y.label, anchor="start")
        if self.marks:
            self._line()
        self._top += 10
        self._bottom = self._top + self.plot
        self.height = round(self._bottom + LINE + (LINE if self.x.label else 0) + 5)
        self._axes()
        self._marks()

    def line(self, points: Iterable[Point], style: str) -> None:
        """A curve, with a gap where a value is no number, and with a dot where one has no neighbour."""
        parts: list[list[Point]] = [[]]
        for point in points:
            if math.isfinite(point[1]):
                parts[-1].append(self._at(*point))
            elif parts[-1]:
                parts.append([])
        for part in parts:
            path = " ".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(part))
            if len(part) > 1:
                self._plotted.append(f'<path class="curve {style}" d="{path}"/>')
            elif part and self._top <= part[0][1] <= self._bottom:
                self._over.append(_dot(part[0], style))

    def interval(self, ends: tuple[Point, Point], value: Point, style: str, *, title: str) -> None:
        """A dot and its whisker."""
        (left, bottom), (right, top) = (self._at(*point) for point in ends)
        path = f'<path class="whisker {style}" d="M{left:.1f} {bottom:.1f} L{right:.1f} {top:.1f}"/>'
        self._over.append(f"<g><title>{escape(title)}</title>{path}{_dot(self._at(*value), style)}</g>")

    def bar(self, left: float, right: float, high: float, *, title: str) -> None:
        """A bar from the bottom, a pixel high at least unless it is empty."""
        (start, top), (end, bottom) = self._at(left, high), self._at(right, self.y.low)
        top = min(top, bottom - 1) if high > self.y.low else bottom
        size = f'width="{max(end - start, 0.5):.1f}" height="{bottom - top:.1f}"'
        inside = f"<title>{escape(title)}</title>"
        self._over.append(f'<rect class="column" x="{start:.1f}" y="{top:.1f}" {size}>{inside}</rect>')

    def note(self, words: str) -> None:
        """Words in the middle of the plot."""
        self._text((self._left + self._right) / 2, (self._top + self._bottom) / 2, words)

    def svg(self) -> Markup:
        """An element of a page."""
        size = f'viewBox="0 0 {self.width} {self.height}"'
        head = f'<svg class="chart" {size} role="img" aria-label="{escape(self.description)}">'
        return Markup(f"{head}{self.body()}</svg>")

    def body(self) -> str:
        """The elements that it is made of."""
        # An <svg> within another one cuts what is outside of it; two pixels more, for lines along its edge.
        x, y, wide, high = self._left - 2, self._top - 2, self._right - self._left + 4, self.plot + 4
        place = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
        plot = f'<svg class="plot" {place} viewBox="{x:.1f} {y:.1f} {wide:.1f} {high:.1f}">'
        return f"{plot}{''.join(self._plotted)}</svg>{''.join(self._over)}"

    def _at(self, x: float, y: float) -> Point:
        across, up = self.x.share(x), self.y.share(y)
        return self._left + across * (self._right - self._left), self._bottom - up * self.plot

    def _line(self) -> float:
        """Takes a line above the plot, and returns where its letters stand."""
        self._top += LINE
        return self._top - 4

    def _text(self, x: float, y: float, words: str, *, anchor: str = "middle", style: str = "tick") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        self._over.append(f'<text class="{style}" {place}>{escape(words)}</text>')

    def _keys(self) -> None:
        x, y = 0.0, 0.0
        for style, name in self.legend:
            wide = 30 + text_width(name)
            if not y or x + wide > self.width:
                x, y = 0.0, self._line()
            self._over.append(f'<path class="{style}" d="M{x:.1f} {y - 4:.1f} h22"/>')
            if style.startswith("whisker"):
                self._over.append(_dot((x + 11, y - 4), style.removeprefix("whisker ")))
            self._text(x + 28, y, name, anchor="start")
            x += wide + 14

    def _axes(self) -> None:
        for tick in self.y.ticks:
            (left, y), (right, _) = self._at(self.x.low, tick), self._at(self.x.high, tick)
            self._plotted.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
            self._text(left - 6, y + 4, self.y.written(tick), anchor="end")
        for tick in self.x.ticks:
            x, y = self._at(tick, self.y.low)
            self._over.append(f'<path class="grid" d="M{x:.1f} {y:.1f}v4"/>')
            words = self.x.written(tick)
            half = text_width(words) / 2
            self._text(min(max(x, half), self.width - half), y + LINE - 2, words)
        if self.x.label:
            self._text((self._left + self._right) / 2, self.height - 6, self.x.label)

    def _marks(self) -> None:
        """Names that have no room beside each other become numbers, of which only those are there that have room."""
        places = [self._at(x, self.y.low)[0] for x, _ in self.marks]
        names = _apart(places, [name for _, name in self.marks], self.width)
        if len(names) < len(places):
            names = _apart(places, [str(place) for place in range(1, len(places) + 1)], self.width)
        for place, (x, (_, name)) in enumerate(zip(places, self.marks, strict=True)):
            line = f'<path class="mark" d="M{x:.1f} {self._top:.1f}V{self._bottom:.1f}"/>'
            self._over.append(f"<g><title>{escape(name)}</title>{line}</g>")
            if place in names:
                middle, words = names[place]
                self._text(middle, self._top - 9, words, style="tick marked")


def text_width(words: str) -> float:
    """Pixels that the words of a chart take; a little more, rather than less."""
    wide = sum(letter in WIDE_ONES or ord(letter) > 0x2E80 for letter in words)
    narrow = sum(letter in NARROW_ONES for letter in words)
    return WIDE * wide + NARROW * narrow + LETTER * (len(words) - wide - narrow)


def _dot(place: Point, style: str) -> str:
    return f'<circle class="dot {style}" cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="4"/>'


def _apart(places: list[float], names: list[str], width: float) -> dict[int, tuple[float, str]]:
    """For each name that has room, by its number, where its middle is, and the name."""
    shown: dict[int, tuple[float, str]] = {}
    end = -math.inf
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        half = text_width(name) / 2
        middle = min(max(place, half), width - half)
        if middle - half > end:
            shown[number] = middle, name
            end = middle + half + 4
    return shown


def theme() -> str:
    """The styles of charts, and their colours in light and dark, as CSS."""
    return files("job.report").joinpath("theme.css").read_text(encoding="utf-8")


def svg_file(description: str, charts: Sequence[Chart]) -> bytes:
    """A file of charts, one below the other."""
    margin, gap = 16, 12
    width = max(chart.width for chart in charts) + 2 * margin
    parts, height = [], margin
    for chart in charts:
        parts.append(f'<g transform="translate({margin} {height})">{chart.body()}</g>')
        height += chart.height + gap
    height += margin - gap
    size = f'width="{width * 1.25:.0f}" height="{height * 1.25:.0f}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(description)}">'
    head += f"<title>{escape(description)}</title><style>{_plain_theme()}</style>"
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return f"{head}{ground}{''.join(parts)}</svg>\n".encode()


def _plain_theme() -> str:
    """The theme without variables, which viewers that are no browsers don't know: its rules in light colours, and then
    in dark ones.
    """
    variables, rules = theme().split("svg text", 1)
    light, dark = (dict(re.findall(r"(--\w+): (#\w+)", part)) for part in variables.split("@media")[:2])

    def written(colours: dict[str, str]) -> str:
        return re.sub(r"var\((--\w+)\)", lambda name: colours[name[1]], f"svg text{rules}")

    return f"{written(light)}@media screen and (prefers-color-scheme: dark) {{\n{written(dark)}}}\n"
