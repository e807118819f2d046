"""What is measured of a run as a whole. That Prometheus reads it is tested in executors/, and of Ray in the image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from job.data.snapshot import Snapshot
from job.errors import NotFinite, TrainingError
from job.telemetry import run_metrics as meter
from job.telemetry.run_metrics import GAUGES, RunMeter, measured
from support.measuring import FakeMetrics

COUNTS = {split: {"a": 2} for split in ("train", "validation", "test")}
SNAPSHOT = Snapshot("id", 6, ["a"], COUNTS, {"empty object": 1}, {"a": 1})
LAST, WRONG = "thaw_last_progress_time_seconds", "thaw_loss_not_finite"


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


class Asked:
    """An executor, as far as it is asked for figures: `scraped` is how long Prometheus takes to read them."""

    def __init__(self, metrics: FakeMetrics, scraped: float = 0.0) -> None:
        self.metrics, self.scraped = metrics, scraped


def test_gauges_follow_the_events_which_are_passed_on(metrics: FakeMetrics) -> None:
    told: list[str] = []

    def heard(kind: str, **event: Any) -> None:
        told.append(kind)

    say = RunMeter("cells-1", SNAPSHOT, metrics).heard_by(heard)
    gauges = metrics.values
    assert gauges.keys() == {"thaw_listed_examples", "thaw_rejects", LAST, WRONG}
    assert (gauges["thaw_listed_examples"], gauges["thaw_rejects"], gauges[WRONG]) == (6, 1, 0)
    say("stage", text="computing", what="words", computed=9, stored=9)
    say("stage", text="computing", what="features", computed=4, stored=2)
    say("rejects", total=3, listing={}, decoding=[])
    say("epoch", phase="head", epoch=1, validation_loss=0.5, validation_accuracy=0.75)
    assert told == ["stage", "stage", "rejects", "epoch"]
    gauges = metrics.values
    assert all(one.tags == {"run_id": "cells-1"} for one in metrics.found)
    assert gauges == dict(zip(GAUGES, (6, 3, 2, 4, 0.5, 0.75, gauges[LAST], 0), strict=True))


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def nothing(kind: str, **event: Any) -> None:
    pass


def test_a_run_gets_on_by_all_but_what_it_says_while_it_stands_still(metrics: FakeMetrics) -> None:
    now = 1000.0
    say = RunMeter("cells-1", SNAPSHOT, metrics, lambda: now).heard_by(nothing)
    assert metrics.values[LAST] == 1000, "from its begin on"
    for kind, got_on in (("note", 0), ("warning", 0), ("stage", 1), ("extract", 1), ("start", 1), ("step", 1)):
        now += 10
        before = metrics.values[LAST]
        say(kind)
        assert metrics.values[LAST] == (now if got_on else before), kind


def test_gauges_are_set_again_for_as_long_as_the_run_lasts(
    metrics: FakeMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not set again Ray exports no more."""
    monkeypatch.setattr(meter, "REPEATED", 0.01)
    with measured("cells-1", SNAPSHOT, nothing, Asked(metrics)):
        for _ in range(3):
            metrics.found.clear()
            wait_for(lambda: len(metrics.values) == 4)
    assert [thread for thread in threading.enumerate() if thread.name == "metrics"] == []


def test_a_run_that_is_not_finite_waits_for_as_long_as_prometheus_takes(metrics: FakeMetrics) -> None:
    found: list[float] = []

    def sleep(seconds: float) -> None:
        found.append(seconds)
        assert metrics.values[WRONG] == 1

    executor = Asked(metrics, 30.0)
    with pytest.raises(NotFinite), measured("cells-1", SNAPSHOT, nothing, executor, sleep):
        raise NotFinite("head: the loss is not finite")
    assert found == [30.0]
    assert metrics.values[WRONG] == 1
    with pytest.raises(TrainingError), measured("cells-1", SNAPSHOT, nothing, executor, sleep):
        raise TrainingError("head: it has not converged")
    assert found == [30.0]
    assert metrics.values[WRONG] == 0
