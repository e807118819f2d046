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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from job.errors import StorageError
from job.storage import Store, read_json
from job.storage.runs import RunKeys

INTERVAL = 15.0
"""Seconds between two writes in the middle of a stage: what a killed attempt loses at most."""
EXTRACTS = ("words", "features")
Say = Callable[..., None]
Row = dict[str, Any]


def read_timings(store: Store, run: str) -> list[Row]:
    """Empty where there are none, or none that can be read."""
    try:
        found = read_json(store, RunKeys(run).timings)
    except StorageError:
        return []
    return found if isinstance(found, list) else []


class Clock:
    """The stages of one attempt, one after another. Some are begun by name, some by the events that `say` hears."""

    def __init__(self, say: Say, now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, now
        self._rows: list[Row] = []
        self._before: list[Row] = []
        self._where: tuple[Store, str] | None = None
        self._attempt: int | None = None
        self._fine_tunes = self._told = False
        self._resumed = "head"
        self._lock = threading.RLock()
        self._since = self._written = now()
        self._row = self._new("listing", None)

    def say(self, kind: str, **event: Any) -> None:
        """Passes it on, and hears what it means for the stages."""
        self._say(kind, **event)
        with self._lock:
            handler = getattr(self, f"_on_{kind}", None)
            if handler is not None:
                handler(**event)
            if self._now() - self._written > INTERVAL:
                self._lap()
                self._write()

    def begin(self, stage: str, workers: int | None = None) -> None:
        """Ends the stage before it."""
        with self._lock:
            self._lap()
            self._row = self._new(stage, workers)
            self._write()

    @contextmanager
    def kept(self, store: Store, run: str, attempt: int) -> Iterator[None]:
        """From here on the stages, and those before, are written to the run's folder."""
        with self._lock:
            self._where, self._attempt = (store, run), attempt
            self._before = [row for row in read_timings(store, run) if row.get("attempt") != attempt]
        try:
            yield
        finally:
            with self._lock:
                self._lap()
                self._write()
                self._where = None

    def _on_run(self, phases: list[str], **_: Any) -> None:
        self._fine_tunes = "fine_tune" in phases

    def _on_snapshot(self, **_: Any) -> None:
        self.begin("preparing")

    def _on_stage(self, what: str = "", computed: int | None = None, stored: int | None = None, **_: Any) -> None:
        if computed is None:
            return
        if what in EXTRACTS and self._row["stage"] in EXTRACTS:
            self.begin(what, self._row["workers"])
        self._row |= {"computed": (self._row["computed"] or 0) + computed, "stored": stored}

    _on_note = _on_stage

    def _on_start(self, workers: int, resumed: list[Any] | None, **_: Any) -> None:
        self._resumed = resumed[0] if resumed else "head"
        self.begin("workers", workers)

    def _on_ready(self, **_: Any) -> None:
        if self._row["stage"] == "workers":  # else a phase has begun that had no step to make
            self.begin(self._resumed, self._row["workers"])

    def _on_head(self, **_: Any) -> None:
        if self._fine_tunes:
            self.begin("fine_tune", self._row["workers"])

    def _on_trained(self, **_: Any) -> None:
        self.begin("workers", self._row["workers"])

    def _new(self, stage: str, workers: int | None) -> Row:
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
        if self._where is None:
            return
        store, run = self._where
        mine = [{"attempt": self._attempt, **row, "seconds": round(row["seconds"], 2)} for row in self._rows]
        try:
            store.write(RunKeys(run).timings, json.dumps([*self._before, *mine], indent=1).encode())
        except Exception as error:  # whatever it is, the run goes on
            if not self._told:
                self._told = True
                self._say("warning", text=f"How long the run's stages take can't be written down: {error}")
