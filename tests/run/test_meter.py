"""What is measured of a run as a whole. That Ray's exporter passes it on is tested in the image."""

from __future__ import annotations

from typing import Any

import pytest

from job.data.snapshot import Snapshot
from job.run.meter import GAUGES, LABELS, RunMeter


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
    counts = {split: {"a": 2} for split in ("train", "validation", "test")}
    snapshot = Snapshot("id", 6, ["a"], counts, {"empty object": 1}, {"a": 1})

    def heard(kind: str, **event: Any) -> None:
        told.append(kind)

    say = RunMeter("cells-1", snapshot).heard_by(heard)
    assert gauges == {"thaw_listed_examples": 6, "thaw_rejects": 1}
    say("stage", text="computing", what="words", computed=9, stored=9)
    say("stage", text="computing", what="features", computed=4, stored=2)
    say("rejects", total=3, listing={}, decoding=[])
    say("epoch", phase="head", epoch=1, validation_loss=0.5, validation_accuracy=0.75)
    assert told == ["stage", "stage", "rejects", "epoch"]
    assert gauges == dict(zip(GAUGES, (6, 3, 2, 4, 0.5, 0.75), strict=True))
