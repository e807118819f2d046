"""Formats numbers for people, in the same way on the terminal, in the page and in the card."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

NAMES = {"head": "head only", "fine_tune": "fine-tuned"}
"""The names of the models for people."""
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "roc_auc": "ROC AUC"}


class Bounds(Protocol):
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares, with its sign, in percentage points."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def metric(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "roc_auc" else percent(value)


def between(name: str, interval: Bounds) -> str:
    """An interval, such as `81.5 to 88.6 %`."""
    if name == "roc_auc":
        return f"{interval.low:.3f} to {interval.high:.3f}"
    return f"{100 * interval.low:.1f} to {percent(interval.high)}"


def duration(seconds: float) -> str:
    """A duration, such as `0.063 s`, `43 s`, `2.5 min`, `13 min` or `3 h 20 min`."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 597:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """A duration, such as `0:02:06`."""
    return str(timedelta(seconds=round(seconds)))


def size(count: float) -> str:
    """A number of bytes, such as `12 MiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if round(count) < 1024:
            return f"{count:.0f} {unit}" if count >= 9.95 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def work(count: float) -> str:
    """A number of multiply-adds, such as `3.4 T`."""
    for unit in ("", " k", " M", " G", " T", " P"):
        if round(count) < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} E"


def plural(count: int, singular: str, plural_form: str | None = None) -> str:
    """A number with its noun: `1 example`, `2,624 examples`."""
    return f"{count:,} {singular if count == 1 else plural_form or singular + 's'}"


def sentence(text: object) -> str:
    """What a library or a server said, with the full stop that they leave out."""
    said = str(text).strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def first_of(names: list[str], most: int) -> str:
    """The first `most` names, and the number of the others: `a, b and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counted(kinds: dict[str, int], most: int = 5) -> str:
    """Counts by kind, the most frequent first: `8,804 (8,000 .txt, 800 .ogg, 4 .dat)`, or `none`."""
    if not kinds:
        return "none"
    ordered = sorted(kinds.items(), key=lambda kind: -kind[1])
    shown = [f"{count:,} {name}" for name, count in ordered[:most]]
    rest = sum(count for _, count in ordered[most:])
    return f"{sum(kinds.values()):,} ({', '.join([*shown, *([f'{rest:,} others'] if rest else [])])})"


def shortened(text: str, length: int) -> str:
    """The text in one line, cut to this length."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def both_ends(text: str, length: int) -> str:
    """In one line, cut in its middle: names often begin alike."""
    line, head = " ".join(text.split()), length // 2
    return line if len(line) <= length else f"{line[:head]}…{line[len(line) + head + 1 - length :]}"
