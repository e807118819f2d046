"""What is measured of a run as a whole. That Prometheus reads it is tested in executors/, and of Ray in the image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job.errors import NotFinite, TrainingError
from job.run.events import (
    Announced,
    AttemptEnded,
    Bus,
    EpochEnded,
    Event,
    ExamplesRejected,
    FeaturesComputed,
    FeaturesCounted,
    Noted,
    StageStarted,
    TrainingStarted,
    Warned,
)
from job.run.outcome import EpochRecord
from job.storage import open_store
from job.telemetry import run_metrics as meter
from job.telemetry.run_metrics import GAUGES, RunGauges
from support.events import Executor, attempt_started
from support.measuring import FakeMetrics

LAST, WRONG = "thaw_last_progress_time_seconds", "thaw_loss_not_finite"


@pytest.fixture
def executor() -> Executor:
    return Executor()


@pytest.fixture
def metrics(executor: Executor) -> FakeMetrics:
    return executor.metrics


@pytest.fixture
def begun(executor: Executor, tmp_path: Path) -> Callable[..., Bus]:
    """The bus of an attempt at `cells-1` whose workers begin."""

    def begin(**how: Any) -> Bus:
        bus = Bus()
        RunGauges(bus, **how)
        bus.emit(attempt_started(open_store(f"file://{tmp_path}/"), "cells-1", executor=executor))
        bus.emit(StageStarted("features", workers=1))
        return bus

    return begin


def test_gauges_follow_the_events(metrics: FakeMetrics, begun: Callable[..., Bus]) -> None:
    bus = begun()
    gauges = metrics.values
    assert gauges.keys() == {"thaw_listed_examples", "thaw_rejects", LAST, WRONG}
    assert (gauges["thaw_listed_examples"], gauges["thaw_rejects"], gauges[WRONG]) == (6, 1, 0)
    bus.emit(FeaturesCounted("words", computed=9, stored=9))
    bus.emit(FeaturesCounted("features", computed=4, stored=2))
    bus.emit(ExamplesRejected(total=3, listing={}, decoding=[]))
    bus.emit(EpochEnded("head", EpochRecord(1, 0.5, 0.75)))
    bus.emit(AttemptEnded())
    gauges = metrics.values
    assert all(one.tags == {"run_id": "cells-1"} for one in metrics.found)
    assert gauges == dict(zip(GAUGES, (6, 3, 2, 4, 0.5, 0.75, gauges[LAST], 0), strict=True))


def test_nothing_is_measured_before_workers_begin(executor: Executor, tmp_path: Path) -> None:
    """On Ray, the first gauge would start it."""
    bus = Bus()
    RunGauges(bus)
    bus.emit(attempt_started(open_store(f"file://{tmp_path}/"), executor=executor))
    bus.emit(StageStarted("report", "making the report"))
    bus.emit(AttemptEnded(NotFinite("head: the loss is not finite")))
    assert executor.metrics.found == []


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_run_gets_on_by_all_but_what_it_says_while_it_stands_still(
    metrics: FakeMetrics, begun: Callable[..., Bus]
) -> None:
    now = 1000.0
    bus = begun(clock=lambda: now)
    assert metrics.values[LAST] == 1000, "from its begin on"
    events: list[tuple[Event, bool]] = [
        (Noted("x"), False), (Warned("x"), False), (Announced("x"), True), (FeaturesComputed(1, 2, None), True),
        (TrainingStarted(1, None), True),
    ]  # fmt: skip
    for event, got_on in events:
        now += 10
        before = metrics.values[LAST]
        bus.emit(event)
        assert metrics.values[LAST] == (now if got_on else before), event
    bus.emit(AttemptEnded())


def test_gauges_are_set_again_for_as_long_as_the_run_lasts(
    metrics: FakeMetrics, begun: Callable[..., Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not set again Ray exports no more."""
    monkeypatch.setattr(meter, "REPEATED", 0.01)
    bus = begun()
    for _ in range(3):
        metrics.found.clear()
        wait_for(lambda: len(metrics.values) == 4)
    bus.emit(AttemptEnded())
    assert [thread for thread in threading.enumerate() if thread.name == "metrics"] == []


def test_a_run_that_is_not_finite_waits_for_as_long_as_prometheus_takes(
    executor: Executor, metrics: FakeMetrics, begun: Callable[..., Bus]
) -> None:
    found: list[float] = []

    def sleep(seconds: float) -> None:
        found.append(seconds)
        assert metrics.values[WRONG] == 1

    executor.scraped = 30.0
    begun(sleep=sleep).emit(AttemptEnded(NotFinite("head: the loss is not finite")))
    assert found == [30.0]
    assert metrics.values[WRONG] == 1
    begun(sleep=sleep).emit(AttemptEnded(TrainingError("head: it has not converged")))
    assert found == [30.0]
    assert metrics.values[WRONG] == 0
