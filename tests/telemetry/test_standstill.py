"""Stages that tell nothing: what a log has of them, and what a terminal shows."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from job.data.snapshot import Snapshot
from job.run.events import (
    Announced,
    AttemptStarted,
    FeaturesComputed,
    Noted,
    RunFound,
    SnapshotTaken,
    StepsMade,
    TrainingStarted,
)
from job.telemetry import narrator
from job.telemetry.narrator import Narrator
from job.telemetry.output import JsonOutput, TextOutput
from support.events import narrated

COUNTS = {split: {"defective": 3, "functional": 8} for split in ("train", "validation", "test")}


def documents(tell: Callable[[Narrator], None], clock: Callable[[], float]) -> list[dict[str, Any]]:
    output = io.StringIO()
    tell(narrated(JsonOutput(output), clock))
    return [json.loads(line) for line in output.getvalue().splitlines()]


class Clock:
    """The time that a narrator sees: it stands still until `passes` moves it on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, narrator: Narrator, seconds: int) -> None:
        """A second at a time."""
        for _ in range(seconds):
            self.now += 1
            narrator.beat()


def test_a_log_tells_once_a_minute_of_a_stage_that_tells_nothing() -> None:
    clock = Clock()

    def tell(narrator: Narrator) -> None:
        with narrator:
            narrator.emit(Announced("listing s3://bucket/cells/"))
            clock.passes(narrator, 130)
            narrator.emit(SnapshotTaken(Snapshot("52ec", 33, [], COUNTS, {}, {})))
            narrator.emit(RunFound(uri="s3://bucket/store/runs/cells-f2/", phases=("head", "fine_tune")))
            narrator.emit(AttemptStarted(2, None, None))
            clock.passes(narrator, 61)
            narrator.emit(Announced("starting 2 workers (each 1 CPU)"))
            clock.passes(narrator, 40)
            narrator.emit(Noted("no worker is at work"))
            clock.passes(narrator, 59)
            narrator.emit(TrainingStarted(workers=2, resumed=None))
            clock.passes(narrator, 65)
            step = {"epochs": 60, "steps": 58, "loss": 0.5, "examples": 288, "seconds": 1.0}
            narrator.emit(StepsMade(phase="head", epoch=2, step=9, **step))
            clock.passes(narrator, 114)
        clock.passes(narrator, 300)

    told = [one for one in documents(tell, clock) if one["event"] == "progress"]
    assert [one["message"] for one in told] == [
        "listing s3://bucket/cells/, 60 s so far",
        "listing s3://bucket/cells/, 2.0 min so far",
        "preparing, 60 s so far",
        "starting to train, 60 s so far",
        "head epoch 2 of 60, loss 0.5000, 288 a second, 0:06:19 left, 2.0 min so far",
    ]
    assert {name: told[2][name] for name in ("run", "attempt", "phase", "stage", "seconds")} == {
        "run": "cells-f2", "attempt": 2, "phase": "prepare", "stage": "preparing", "seconds": 60.0,
    }  # fmt: skip
    assert [told[-1][name] for name in ("phase", "epoch", "step", "done")] == ["head", 2, 9, 67]


def test_a_stage_that_tells_how_far_it_is_is_told_of_once_a_minute_and_not_twice() -> None:
    clock = Clock()

    def tell(narrator: Narrator) -> None:
        with narrator:
            for second in range(1, 301):
                step = {"epochs": 9, "steps": 1000, "loss": 0.5, "examples": 32 * second, "seconds": float(second)}
                narrator.emit(StepsMade(phase="head", epoch=1, step=second, **step))
                clock.passes(narrator, 1)

    assert [one["step"] for one in documents(tell, clock)] == [60, 120, 180, 240, 300]


def test_a_log_beats_by_itself_and_no_more_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = threading.Event()

    class Log(io.StringIO):
        def write(self, text: str) -> int:
            if '"progress"' in text:
                beaten.set()
            return super().write(text)

    monkeypatch.setattr(narrator, "INTERVAL", 0.01)
    log = Log()
    with narrated(JsonOutput(log)) as telling:
        telling.emit(Announced("making the report"))
        assert beaten.wait(30)
    written = log.getvalue()
    telling.beat()
    for thread in threading.enumerate():
        if thread.name == "narrator":
            thread.join(30)
    assert log.getvalue() == written


def test_a_terminal_shows_a_stage_without_a_bar_with_the_time_that_it_takes() -> None:
    def tell(narrator: Narrator) -> None:
        with narrator:
            narrator.emit(Announced("listing s3://[bucket]/cells/"))
            narrator.emit(SnapshotTaken(Snapshot("52ec", 33, [], COUNTS, {}, {})))
            narrator.emit(Announced("computing the features of 33 examples"))
            narrator.emit(FeaturesComputed(done=11, of=33, rate=2.0))
            narrator.emit(FeaturesComputed(done=33, of=33, rate=2.0))
            narrator.emit(Announced("starting a worker (1 CPU)"))

    output = io.StringIO()
    tell(narrated(TextOutput(Console(file=output, force_terminal=True, color_system=None, width=80, _environ={}))))
    drawn = output.getvalue()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.replace("\r", "\n")).splitlines()
    shown = [line.rstrip() for line in lines if re.match(r" {5}[-\\\\|/] \d:\d\d:\d\d ", line)]
    assert list(dict.fromkeys(line[15:] for line in shown)) == [
        "listing s3://[bucket]/cells/",
        "preparing",
        "computing the features of 33 examples",
        "starting a worker (1 CPU)",
    ]
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
