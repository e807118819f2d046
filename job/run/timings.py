"""How long each stage of a run took, in its folder in the store.

runs/<run>/timings.json   [{attempt, stage, seconds, workers, computed, stored}, …]: an attempt appends to it

`stage`: listing, indexing, preparing (weights and plan), words, features, comparing (see retrain_when), workers (their
start and end), head, fine_tune, export, promotion, report. `workers`: how many worked at it, null where the driver did;
`computed` and `stored`: of features, the examples that were computed, and those that had theirs.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from job.errors import StorageError
from job.run.events import (
    AttemptEnded,
    AttemptStarted,
    Bus,
    Event,
    FeaturesCounted,
    FirstStepMade,
    HeadTrained,
    RunFound,
    SnapshotTaken,
    StageStarted,
    TrainingEnded,
    TrainingStarted,
    Warned,
)
from job.storage import Store, read_json
from job.storage.runs import RunKeys

INTERVAL = 15.0
"""Seconds between two writes in the middle of a stage: what a killed attempt loses at most."""
EXTRACTS = ("words", "features")
Row = dict[str, Any]


def read_timings(store: Store, run: str) -> list[Row]:
    """Empty where there are none, or none that can be read."""
    try:
        found = read_json(store, RunKeys(run).timings)
    except StorageError:
        return []
    return found if isinstance(found, list) else []


class StageClock:
    """The stages of a run, one after another, from the events that begin them; written while an attempt lasts."""

    def __init__(self, bus: Bus, now: Callable[[], float] = time.monotonic) -> None:
        self._emit, self._now = bus.emit, now
        self._rows: list[Row] = []
        self._before: list[Row] = []
        self._attempt: AttemptStarted | None = None
        self._fine_tunes = self._warned = False
        self._resumed = "head"
        self._lock = threading.RLock()
        self._since = self._written = now()
        self._row = self._row_of("listing", None)
        bus.subscribe(Event, self._event)

    def _event(self, event: Event) -> None:
        with self._lock:
            match event:
                case AttemptStarted():
                    self._attempt_started(event)
                case RunFound():
                    self._fine_tunes = "fine_tune" in event.phases
                case StageStarted():
                    self._begin(event.stage, event.workers)
                case SnapshotTaken():
                    self._begin("preparing")
                case FeaturesCounted():
                    self._features_counted(event)
                case TrainingStarted():
                    self._resumed = event.resumed[0] if event.resumed else "head"
                    self._begin("workers", event.workers)
                case FirstStepMade() if self._row["stage"] == "workers":  # else a phase has begun that had none to make
                    self._begin(self._resumed, self._row["workers"])
                case HeadTrained() if self._fine_tunes:
                    self._begin("fine_tune", self._row["workers"])
                case TrainingEnded():
                    self._begin("workers", self._row["workers"])
                case AttemptEnded():
                    self._attempt_ended()
            if self._now() - self._written > INTERVAL:
                self._lap()
                self._write()

    def _begin(self, stage: str, workers: int | None = None) -> None:
        """Ends the stage before it."""
        self._lap()
        self._row = self._row_of(stage, workers)
        self._write()

    def _attempt_started(self, attempt: AttemptStarted) -> None:
        """From here on the stages, and those before, are written to the run's folder."""
        self._attempt = attempt
        rows = read_timings(attempt.run.store, attempt.run.id)
        self._before = [row for row in rows if row.get("attempt") != attempt.number]

    def _attempt_ended(self) -> None:
        self._lap()
        self._write()
        self._attempt = None

    def _features_counted(self, features: FeaturesCounted) -> None:
        if features.what in EXTRACTS and self._row["stage"] in EXTRACTS:
            self._begin(features.what, self._row["workers"])
        self._row |= {"computed": (self._row["computed"] or 0) + features.computed, "stored": features.stored}

    def _row_of(self, stage: str, workers: int | None) -> Row:
        """The row of this stage: that of before, where it is begun once more."""
        for row in self._rows:
            if (row["stage"], row["workers"]) == (stage, workers):
                return row
        self._rows.append(row := {"stage": stage, "seconds": 0.0, "workers": workers, "computed": None, "stored": None})
        return row

    def _lap(self) -> None:
        now = self._now()
        self._row["seconds"], self._since = self._row["seconds"] + now - self._since, now

    def _write(self) -> None:
        self._written = self._now()
        if self._attempt is None:
            return
        run, number = self._attempt.run, self._attempt.number
        mine = [{"attempt": number, **row, "seconds": round(row["seconds"], 2)} for row in self._rows]
        try:
            run.store.write(run.keys.timings, json.dumps([*self._before, *mine], indent=1).encode())
        except Exception as error:  # whatever it is, the run goes on
            if not self._warned:
                self._warned = True
                self._emit(Warned(f"How long the run's stages take can't be written down: {error}"))
