"""Charts read back from their SVG: what is drawn in them, in the values of their axes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from xml.etree import ElementTree

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
Point = tuple[float, float]


@dataclass
class Drawn:
    """A chart."""

    svg: str
    log: tuple[bool, bool] = (False, False)
    """Whether x, and y, are logarithmic."""

    def __post_init__(self) -> None:
        self.root = ElementTree.fromstring(self.svg.replace('xmlns="http://www.w3.org/2000/svg"', ""))
        self.text = " ".join(self.root.itertext())

    def all(self, style: str, tag: str = "*") -> list[ElementTree.Element]:
        """Elements of this class, or these classes, in their order."""
        wanted = set(style.split())
        return [one for one in self.root.iter(tag) if wanted <= set(one.get("class", "").split())]

    def curve(self, style: str) -> list[list[Point]]:
        """The points of each line of this style that is in the plot."""
        plots = [path for plot in self.all("plot") for path in plot.iter("path")]
        found = [path for path in plots if path.get("class") == f"curve {style}"]
        return [[self._value(point) for point in _points(path.get("d", ""))] for path in found]

    def dots(self, style: str) -> list[Point]:
        return [self._value((float(dot.get("cx", "")), float(dot.get("cy", "")))) for dot in self.all(f"dot {style}")]

    def _value(self, point: Point) -> Point:
        ticks = self._ticks()
        return tuple(_between(ticks[axis], point[axis], log=self.log[axis]) for axis in (0, 1))  # type: ignore[return-value]

    def _ticks(self) -> tuple[list[Point], list[Point]]:
        """For x and for y, the place and the value of each tick: its words stand beside its line."""
        words = [one for one in self.all("tick", "text") if re.fullmatch(r"−?[\d,.]+( %)?", one.text or "")]
        ends = [one for one in words if one.get("text-anchor") == "end"]
        feet = [one for one in words if one.get("text-anchor") == "middle" and "marked" not in one.get("class", "")]
        across = [(float(one.get("x", "")), _number(one.text or "")) for one in feet]
        up = [(float(one.get("y", "")) - 4, _number(one.text or "")) for one in ends]
        return across, up


def _number(words: str) -> float:
    return float(words.replace(" %", "").replace(",", "").replace("−", "-"))


def _points(path: str) -> list[Point]:
    numbers = [float(one) for one in NUMBER.findall(path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _between(ticks: list[Point], place: float, *, log: bool) -> float:
    (start, low), (end, high) = ticks[0], ticks[-1]
    share = (place - start) / (end - start)
    if not log:
        return low + share * (high - low)
    return 10 ** (math.log10(low) + share * (math.log10(high) - math.log10(low)))
