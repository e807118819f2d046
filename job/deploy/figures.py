"""Where a run stands, as annotations of its RayJob."""

from __future__ import annotations

from typing import Any

from job.deploy.annotations import EPOCH, LEFT, LOSS, METRIC, PERCENT, PHASE, RATE, RUN
from job.telemetry.run_progress import RunProgress, Tracker
from job.wording import clock


class Figures:
    """The annotations that follow from the events so far."""

    def __init__(self) -> None:
        self._tracker = Tracker()

    def after(self, kind: str, event: dict[str, Any]) -> dict[str, str | None]:
        """What changes with this event; None deletes."""
        if not self._tracker.after(kind, event):
            return {}
        run = {RUN: event["uri"].rstrip("/").rpartition("/")[2]} if kind == "run" else {}
        return {**run, **_annotations(self._tracker.now)}


def _annotations(now: RunProgress) -> dict[str, str | None]:
    told: dict[str, str | None] = {PHASE: now.phase, PERCENT: f"{now.percent:.0f}"}
    told[EPOCH] = None if now.epoch is None else f"{now.epoch}/{now.epochs}" if now.epochs else str(now.epoch)
    told[LOSS] = None if now.loss is None else f"{now.loss:.4f}"
    told[METRIC] = None if now.accuracy is None else f"validation accuracy {now.accuracy:.4f}"
    told[RATE] = f"{now.rate:.0f} examples/s" if now.rate else None
    told[LEFT] = None if now.left is None else clock(now.left)
    return told
