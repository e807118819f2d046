"""What a run tells on standard error: lines, with live bars on a terminal, or a JSON document a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table

from job.run.events import (
    Announced,
    Bus,
    Emit,
    Event,
    FeaturesComputed,
    FeaturesCounted,
    LayersThawed,
    RunProgress,
    ShardsIndexed,
    SnapshotTaken,
    StageStarted,
    StepsMade,
    TrainingStarted,
)
from job.run.outcome import RunResult
from job.telemetry.console import classes_table
from job.telemetry.lines import Line, lines_of, result_line
from job.telemetry.output import Output
from job.telemetry.run_progress import describe
from job.wording import duration

INTERVAL = 60.0
"""Seconds between two lines about how far a stage is, where there is no bar, and at most between any two lines."""
FIGURES = ("percent", "done", "of", "epochs", "loss", "accuracy", "rate", "left")
"""Fields of a RunProgress, in a line about how far a stage is."""
STEADY = (ShardsIndexed, FeaturesComputed, StepsMade)
"""Events that a bar is made of."""


class Narrator:
    """Turns events into lines. In its `with` block, stages that tell nothing are shown as well, or told of once in
    INTERVAL seconds.
    """

    def __init__(self, bus: Bus, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self.bus, self._output, self._clock, self._seldom = bus, output, clock, Seldom(clock)
        self._now = RunProgress()
        self._moved, self._phase = False, self._now.phase
        self._doing = ""
        self._latest = self._since = self._clock()
        self._lock, self._over = threading.RLock(), threading.Event()
        self._over.set()
        bus.subscribe(Event, self._event)

    @property
    def emit(self) -> Emit:
        return self.bus.emit

    def __enter__(self) -> Narrator:
        self._over.clear()
        self._latest = self._since = self._clock()
        if not self._output.lives:
            threading.Thread(target=self._watch, name="narrator", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over.set()
            self._output.end()

    def beat(self) -> None:
        """Tells of the stage that is under way, where nothing was told for INTERVAL seconds."""
        with self._lock:
            now = self._clock()
            if self._over.is_set() or now - self._latest < INTERVAL:
                return
            words, seconds = self._doing or describe(self._now), now - self._since
            self._far(f"{words}, {duration(seconds)} so far", stage=words, seconds=round(seconds, 1))

    def result(self, result: RunResult, document: dict[str, Any]) -> None:
        """Tells the end, for who reads no table; `document` is what `--json` prints."""
        with self._lock:
            self._line("result", result_line(result, document))

    def _event(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, RunProgress):  # comes before the event that it follows from
                self._now, self._moved = event, True
                return
            for line in lines_of(event):
                self._line(event.kind, line)
            if isinstance(event, STEADY):
                self._progress()
            elif isinstance(event, SnapshotTaken):
                self._output.table(classes_table(event.snapshot.counts))
            elif isinstance(event, LayersThawed):
                self._output.table(_layers_table(event))
            self._follow(event)

    def _follow(self, event: Event) -> None:
        """Shows what is under way from this event on."""
        moved, entered = self._moved, self._now.phase != self._phase
        self._moved, self._phase = False, self._now.phase
        if stage := _stage_of(event):
            self._begin(stage)
        elif isinstance(event, TrainingStarted):
            self._begin("starting to train")
        elif isinstance(event, SnapshotTaken) or entered:
            self._begin("")
        elif moved:
            self._doing = ""

    def _watch(self) -> None:
        while not self._over.wait(self._latest + INTERVAL - self._clock()):
            self.beat()

    def _begin(self, words: str) -> None:
        self._doing, self._since = words, self._clock()
        if not self._over.is_set() and (words or self._now.done is None):
            self._output.begin(words or describe(self._now), self._now)

    def _progress(self) -> None:
        if self._output.lives:
            self._output.progress(self._now)
        elif self._seldom.is_due(self._now):
            self._far(describe(self._now))

    def _far(self, text: str, **fields: Any) -> None:
        """Writes a line about how far the stage is."""
        self._seldom.is_told()
        figures = {name: value for name in FIGURES if (value := getattr(self._now, name)) is not None}
        self._line(RunProgress.kind, Line(text, {**figures, **fields}))

    def _line(self, kind: str, line: Line) -> None:
        self._latest = self._clock()
        self._output.line(line.level, line.text, event=kind, now=self._now, fields=line.fields)


def _stage_of(event: Event) -> str:
    """What is under way from now on, in words; empty where the event does not say it."""
    if isinstance(event, (Announced, StageStarted)):
        return event.text
    if isinstance(event, FeaturesCounted) and event.computed:
        return next(lines_of(event)).text
    return ""


def _layers_table(thawed: LayersThawed) -> Table:
    table = Table("block", "layers", "parameters", "trainable", box=None, pad_edge=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for block, layers, parameters, trainable in thawed.blocks:
        style = "" if trainable else "dim"
        table.add_row(escape(block), str(layers), f"{parameters:,}", f"{trainable:,}", style=style)
    return table


class Seldom:
    """When to tell how far a phase is: once in INTERVAL seconds; and where it has no epochs, at its begin and end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._phase, self._told = clock, "", 0.0

    def is_due(self, now: RunProgress) -> bool:
        begins, trains = now.phase != self._phase, now.epoch is not None
        due = not trains if begins or now.done == now.of else self._clock() - self._told > INTERVAL
        if begins or due:
            self._phase, self._told = now.phase, self._clock()
        return due

    def is_told(self) -> None:
        """Something else has told it."""
        self._told = self._clock()
