"""What the events of a run come to, in figures."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from job.deploy.annotations import EPOCH, FIGURES, LEFT, LOSS, METRIC, PERCENT, PHASE, RATE, RUN

Shares = dict[str, tuple[float, float]]
FIRST: Shares = {"prepare": (0, 2), "index": (0, 2), "extract": (2, 40), "export": (96, 100)}
"""Where each phase begins and ends, in percent of the run."""
BOTH: Shares = {"head": (40, 60), "fine_tune": (60, 96)}
HEAD_ONLY: Shares = {"head": (40, 96)}


class Figures:
    """The annotations that follow from the events so far.

    `percent` is of the whole run: each phase has a fixed share of it (FIRST, BOTH), which is filled in proportion to
    its examples or to its epochs. A phase that converges before its last epoch jumps to its end, and stages whose work
    is stored already are passed in no time. It never falls: features that are computed again, or an epoch that is
    trained again, leave it where it was.
    """

    def __init__(self) -> None:
        self._shares: Shares = {**FIRST, **BOTH}
        self._percent = 0.0

    def after(self, kind: str, event: dict[str, Any]) -> dict[str, str | None]:
        """What changes with this event; None deletes."""
        handler = getattr(self, f"_{kind}", None)
        return handler(**event) if handler else {}

    def _run(self, uri: str, phases: list[str]) -> dict[str, str | None]:
        self._shares = {**FIRST, **(BOTH if "fine_tune" in phases else HEAD_ONLY)}
        return {RUN: uri.rstrip("/").rpartition("/")[2], **self._at("prepare", 1)}

    def _snapshot(self, **_: Any) -> dict[str, str | None]:
        return self._at("prepare", 0)

    def _index(self, done: int, of: int) -> dict[str, str | None]:
        return self._at("index", done / of)

    def _extract(self, done: int, of: int, rate: float | None) -> dict[str, str | None]:
        figures = self._at("extract", done / of)
        if rate:
            figures |= {RATE: f"{rate:.0f} examples/s", LEFT: _duration((of - done) / rate)}
        return figures

    def _start(self, resumed: list[Any] | None, **_: Any) -> dict[str, str | None]:
        return self._at(resumed[0] if resumed else "head", 0)

    def _epoch(self, phase: str, epoch: int, epochs: int | None = None, **event: Any) -> dict[str, str | None]:
        """`epochs` is missing where none was trained: before fine-tuning, the head's model is measured."""
        figures = self._at(phase, epoch / epochs if epochs else 0)
        figures |= {EPOCH: f"{epoch}/{epochs}" if epochs else str(epoch)}
        figures[METRIC] = f"validation accuracy {event['validation_accuracy']:.4f}"
        figures[LOSS] = f"{event.get('loss', event['validation_loss']):.4f}"
        if epochs and event["seconds"]:
            figures[RATE] = f"{event['examples'] / event['seconds']:.0f} examples/s"
            figures[LEFT] = _duration((epochs - epoch) * event["seconds"])
        return figures

    def _head(self, **_: Any) -> dict[str, str | None]:
        return self._at("head", 1)

    def _thaw(self, **_: Any) -> dict[str, str | None]:
        return self._at("fine_tune", 0)

    def _trained(self, **_: Any) -> dict[str, str | None]:
        return self._at("export", 0)

    def _at(self, phase: str, part: float) -> dict[str, str | None]:
        begin, end = self._shares.get(phase, (0, 0))
        self._percent = max(self._percent, begin + (end - begin) * min(part, 1))
        return {**dict.fromkeys(FIGURES), PHASE: phase, PERCENT: f"{self._percent:.0f}"}


def _duration(seconds: float) -> str:
    """At most, of the phase: it may converge before its last epoch."""
    return str(timedelta(seconds=round(seconds)))
