"""Timings of a run: the duration of each stage, stored in the folder of the run.

runs/<run>/timings.json   [{attempt, stage, seconds, workers, computed, stored}, …]: an attempt appends to it

`stage` is listing, indexing, preparing (weights and plan), words, features, comparing (see retrain_when), workers
(their start and end), head, fine_tune, export, promotion or report. `workers` is the number of workers, null where the
driver did the work. `computed` and `stored` are the numbers of examples whose features were computed, or stored before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from job.errors import StorageError
from job.run.events import (
    AttemptEnded,
    AttemptStarted,
    Bus,
    Event,
    FeaturesCounted,
    FirstStepMade,
    HandedOver,
    HeadTrained,
    RunFound,
    SnapshotTaken,
    StageStarted,
    TrainingEnded,
    TrainingStarted,
    Warned,
)
from job.storage import Store
from job.storage.documents import read_document, write_document
from job.storage.run_keys import RunKeys

INTERVAL = 15.0
"""Seconds between two writes within a stage. A killed attempt loses at most these."""
EXTRACTS = ("words", "features")


@dataclass
class StageTiming:
    """How long an attempt has spent in a stage."""

    attempt: int
    stage: str
    seconds: float
    workers: int | None
    """How many worked at it; None where the driver did."""
    computed: int | None
    """The examples whose features were computed."""
    stored: int | None
    """The examples whose features were stored already."""


def read_timings(store: Store, run: str) -> list[StageTiming]:
    """The timings of a run; empty where there are none that can be read."""
    try:
        return read_document(store, RunKeys(run).timings, list[StageTiming]) or []
    except StorageError:
        return []


class StageClock:
    """Measures the stages of a run by the events that begin them, and stores the timings during an attempt."""

    def __init__(self, bus: Bus, now: Callable[[], float] = time.monotonic) -> None:
        self._emit, self._now = bus.emit, now
        self._rows: list[StageTiming] = []
        self._before: list[StageTiming] = []
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
                case FirstStepMade() if self._row.stage == "workers":  # else a phase has begun that had none to make
                    self._begin(self._resumed, self._row.workers)
                case HeadTrained() if self._fine_tunes:
                    self._begin("fine_tune", self._row.workers)
                case TrainingEnded() | HandedOver():
                    self._begin("workers", self._row.workers)
                case AttemptEnded():
                    self._attempt_ended()
            if self._now() - self._written > INTERVAL:
                self._lap()
                self._write()

    def _begin(self, stage: str, workers: int | None = None) -> None:
        """Begins a stage, and ends the one before."""
        self._lap()
        self._row = self._row_of(stage, workers)
        self._write()

    def _attempt_started(self, attempt: AttemptStarted) -> None:
        """From here on, the timings, also those of earlier stages, are written to the folder of the run."""
        self._attempt = attempt
        rows = read_timings(attempt.run.store, attempt.run.id)
        self._before = [row for row in rows if row.attempt != attempt.number]

    def _attempt_ended(self) -> None:
        self._lap()
        self._write()
        self._attempt = None

    def _features_counted(self, features: FeaturesCounted) -> None:
        if features.what in EXTRACTS and self._row.stage in EXTRACTS:
            self._begin(features.what, self._row.workers)
        self._row.computed = (self._row.computed or 0) + features.computed
        self._row.stored = features.stored

    def _row_of(self, stage: str, workers: int | None) -> StageTiming:
        """The row of this stage: the earlier one where the stage begins again, else a new one."""
        for row in self._rows:
            if (row.stage, row.workers) == (stage, workers):
                return row
        self._rows.append(row := StageTiming(0, stage, 0.0, workers, computed=None, stored=None))
        return row

    def _lap(self) -> None:
        now = self._now()
        self._row.seconds, self._since = self._row.seconds + now - self._since, now

    def _write(self) -> None:
        self._written = self._now()
        if self._attempt is None:
            return
        run, number = self._attempt.run, self._attempt.number
        own_rows = [replace(row, attempt=number, seconds=round(row.seconds, 2)) for row in self._rows]
        try:
            write_document(run.store, run.keys.timings, [*self._before, *own_rows])
        except Exception as error:  # whatever it is, the run goes on
            if not self._warned:
                self._warned = True
                self._emit(Warned(f"How long the run's stages take can't be written down: {error}"))
