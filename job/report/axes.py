"""Axes of charts: where a value lies, and which round numbers are written beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """`0.25`, `1,200`, `−3`, `10⁻⁵`, `2·10⁷`"""
    if value and not 1e-3 <= abs(value) < 1e6:
        digits, exponent = f"{value:.3e}".split("e")
        factor = "" if float(digits) == 1 else f"{float(digits):g}·".replace("-", "−")
        return f"{factor}10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return f"{value:,.10g}".replace("-", "−")


def in_percent(share: float) -> str:
    """`80 %`"""
    return f"{100 * share:.6g} %"


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers with `most` steps between the two values, or fewer. The first is not above `low`, and the last not
    below `high`.
    """
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [count * step for count in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class Axis:
    """What lies at both ends of an axis, and what is written beside it."""

    low: float
    high: float
    ticks: Sequence[float]
    _: KW_ONLY
    label: str = ""
    written: Callable[[float], str] = number
    """A tick in words."""
    log: bool = False

    def share(self, value: float) -> float:
        """How far a value lies from the low end (0) to the high end (1)."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)


def linear(values: Iterable[float], label: str = "", written: Callable[[float], str] = number) -> Axis:
    """An axis that holds all values, from one round number to another."""
    known = list(values)
    ticks = round_ticks(min(known), max(known))
    return Axis(ticks[0], ticks[-1], ticks, label=label, written=written)


def counts(values: Iterable[int], label: str = "") -> Axis:
    """An axis from 0 that holds all counts."""
    ticks = round_ticks(0, max(values))
    whole = [tick for tick in ticks if tick == int(tick)]
    return Axis(0, ticks[-1], whole, label=label, written="{:,.0f}".format)


def shares(values: Iterable[float], label: str = "") -> Axis:
    """An axis that holds all shares, and five points at least."""
    known = [min(max(value, 0.0), 1.0) for value in values]
    return linear([max(max(known) - 0.05, 0.0), *known], label, in_percent)


def steps(first: int, last: int, label: str = "") -> Axis:
    """An axis of what is counted, with some room at its ends."""
    step = 1
    if last - first > 12:
        start, second, *_ = round_ticks(first, last, most=8)
        step = round(second - start)
    ticks = [tick for tick in range(first, last + 1) if tick % step == 0]
    room = 0.5 if first == last else 0.02 * (last - first)
    return Axis(first - room, last + room, ticks, label=label)


def logarithmic(values: Iterable[float], label: str = "") -> Axis:
    """An axis that holds all values (above 0), from one power of ten to another."""
    known = list(values)
    first, last = math.floor(math.log10(min(known)) + 1e-9), math.ceil(math.log10(max(known)) - 1e-9)
    last = max(last, first + 1)
    ticks = [10.0**power for power in range(first, last + 1, 1 + (last - first) // 8)]
    return Axis(10.0**first, 10.0**last, ticks, label=label, log=True)
