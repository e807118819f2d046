"""What is measured of a run as a whole. That Ray's exporter passes it on is tested in the image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from job.data.snapshot import Snapshot
from job.errors import NotFinite, TrainingError
from job.run import meter
from job.run.meter import GAUGES, LABELS, SCRAPED, RunMeter, measured

COUNTS = {split: {"a": 2} for split in ("train", "validation", "test")}
SNAPSHOT = Snapshot("id", 6, ["a"], COUNTS, {"empty object": 1}, {"a": 1})
LAST, WRONG = "thaw_last_progress_time_seconds", "thaw_loss_not_finite"


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What Ray's metrics have."""
    found: dict[str, float] = {}

    class Gauge:
        def __init__(self, name: str, description: str, labels: tuple[str, ...]) -> None:
            assert labels == LABELS
            self._name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert tags == {"run_id": "cells-1"}
            found[self._name] = value

    monkeypatch.setattr("ray.util.metrics.Gauge", Gauge)
    return found


def test_gauges_follow_the_events_which_are_passed_on(gauges: dict[str, float]) -> None:
    told: list[str] = []

    def heard(kind: str, **event: Any) -> None:
        told.append(kind)

    say = RunMeter("cells-1", SNAPSHOT).heard_by(heard)
    assert gauges.keys() == {"thaw_listed_examples", "thaw_rejects", LAST, WRONG}
    assert (gauges["thaw_listed_examples"], gauges["thaw_rejects"], gauges[WRONG]) == (6, 1, 0)
    say("stage", text="computing", what="words", computed=9, stored=9)
    say("stage", text="computing", what="features", computed=4, stored=2)
    say("rejects", total=3, listing={}, decoding=[])
    say("epoch", phase="head", epoch=1, validation_loss=0.5, validation_accuracy=0.75)
    assert told == ["stage", "stage", "rejects", "epoch"]
    assert gauges == dict(zip(GAUGES, (6, 3, 2, 4, 0.5, 0.75, gauges[LAST], 0), strict=True))


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def nothing(kind: str, **event: Any) -> None:
    pass


def test_a_run_gets_on_by_all_but_what_it_says_while_it_stands_still(gauges: dict[str, float]) -> None:
    now = 1000.0
    say = RunMeter("cells-1", SNAPSHOT, lambda: now).heard_by(nothing)
    assert gauges[LAST] == 1000, "from its begin on"
    for kind, got_on in (("note", 0), ("warning", 0), ("stage", 1), ("extract", 1), ("start", 1), ("step", 1)):
        now += 10
        before = gauges[LAST]
        say(kind)
        assert gauges[LAST] == (now if got_on else before), kind


def test_gauges_are_set_again_for_as_long_as_the_run_lasts(
    gauges: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not set again Ray exports no more."""
    monkeypatch.setattr(meter, "REPEATED", 0.01)
    with measured("cells-1", SNAPSHOT, nothing):
        for _ in range(3):
            gauges.clear()
            wait_for(lambda: len(gauges) == 4)
    assert [thread for thread in threading.enumerate() if thread.name == "metrics"] == []


@pytest.mark.parametrize(("address", "waited"), [("127.0.0.1:6379", [SCRAPED]), ("", [])])
def test_a_run_that_is_not_finite_waits_on_a_cluster_until_prometheus_knows(
    address: str, waited: list[float], gauges: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    found: list[float] = []

    def sleep(seconds: float) -> None:
        found.append(seconds)
        assert gauges[WRONG] == 1

    with pytest.raises(NotFinite), measured("cells-1", SNAPSHOT, nothing, sleep):
        raise NotFinite("head: the loss is not finite")
    assert found == waited
    assert gauges[WRONG] == 1
    with pytest.raises(TrainingError), measured("cells-1", SNAPSHOT, nothing, sleep):
        raise TrainingError("head: it has not converged")
    assert found == waited
    assert gauges[WRONG] == 0
