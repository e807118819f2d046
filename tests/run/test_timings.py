"""How long each stage of an attempt took, whatever ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from job.errors import StorageError
from job.run.events import (
    AttemptEnded,
    Bus,
    EpochEnded,
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
from job.run.outcome import EpochRecord
from job.run.timings import StageClock, read_timings
from job.storage import Store
from job.storage.run_keys import RunKeys
from support.events import SNAPSHOT, Heard, attempt_started


class Time:
    """A clock that moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def attempt_of(bus: Bus, store: Store, number: int) -> Iterator[None]:
    bus.emit(attempt_started(store, number=number))
    yield
    bus.emit(AttemptEnded())


def spent(store: Store, attempt: int = 1) -> dict[str, float]:
    return {row.stage: row.seconds for row in read_timings(store, "run") if row.attempt == attempt}


def test_an_attempt_from_the_listing_to_the_report(store: Store) -> None:
    time = Time()
    bus = Bus()
    StageClock(bus, time)
    time.pass_by(1)
    bus.emit(SnapshotTaken(SNAPSHOT))
    time.pass_by(2)
    bus.emit(RunFound(uri="x", phases=("head", "fine_tune")))
    with attempt_of(bus, store, 1):
        bus.emit(StageStarted("features", workers=3))
        time.pass_by(10)
        bus.emit(FeaturesCounted("features", computed=70, stored=30))
        bus.emit(StageStarted("workers", workers=2))
        time.pass_by(5)
        bus.emit(TrainingStarted(workers=2, resumed=None))
        time.pass_by(6)
        bus.emit(FirstStepMade(at=0, seconds={}))
        time.pass_by(20)
        bus.emit(EpochEnded("head", EpochRecord(1, 0.5, 0.5)))
        bus.emit(HeadTrained(converged=True, epoch=1, best=1))
        time.pass_by(40)
        bus.emit(TrainingEnded(kept="head", fine_tuned=True))
        time.pass_by(3)
        bus.emit(StageStarted("export"))
        time.pass_by(4)
    rows = read_timings(store, "run")
    assert spent(store) == {
        "listing": 1,
        "preparing": 2,
        "features": 10,
        "workers": 14,
        "head": 20,
        "fine_tune": 40,
        "export": 4,
    }
    by_stage = {row.stage: row for row in rows}
    assert (by_stage["features"].workers, by_stage["features"].computed, by_stage["features"].stored) == (
        3,
        70,
        30,
    )
    assert (by_stage["fine_tune"].workers, by_stage["export"].workers) == (2, None)
    assert list(asdict(rows[0])) == ["attempt", "stage", "seconds", "workers", "computed", "stored"]


def test_workers_with_gpus_that_go_on_from_the_head_are_started_too(store: Store) -> None:
    time, bus = Time(), Bus()
    StageClock(bus, time)
    bus.emit(RunFound(uri="x", phases=("head", "fine_tune")))
    with attempt_of(bus, store, 1):
        for resumed, start, phase in ((None, 5, 20), (("head", 1, 0), 7, 40)):
            bus.emit(StageStarted("workers", workers=2)) if resumed is None else bus.emit(HandedOver())
            time.pass_by(start)
            bus.emit(TrainingStarted(workers=2, resumed=resumed))
            if resumed is None:
                bus.emit(FirstStepMade(at=0, seconds={}))
                time.pass_by(phase)
                bus.emit(HeadTrained(converged=True, epoch=1, best=1))
            else:
                bus.emit(HeadTrained(converged=True, epoch=1, best=1, before=True))
                time.pass_by(phase)
                bus.emit(FirstStepMade(at=0, seconds={}))
        bus.emit(TrainingEnded(kept="head", fine_tuned=True))
    assert spent(store) == {"listing": 0, "workers": 12, "head": 20, "fine_tune": 40}


def test_an_attempt_appends_and_one_that_resumes_in_fine_tuning_has_no_head(store: Store) -> None:
    for attempt in (1, 2):
        time = Time()
        bus = Bus()
        StageClock(bus, time)
        bus.emit(RunFound(uri="x", phases=("head", "fine_tune")))
        with attempt_of(bus, store, attempt):
            bus.emit(StageStarted("workers", workers=2))
            bus.emit(TrainingStarted(workers=2, resumed=("fine_tune", 3, 7) if attempt == 2 else None))
            bus.emit(FirstStepMade(at=0, seconds={}))
            time.pass_by(8)
    assert spent(store, 1)["head"] == 8
    assert spent(store, 2)["fine_tune"] == 8
    assert "head" not in spent(store, 2)


def test_a_head_that_has_converged_before_makes_no_stage_when_the_first_step_is_fine_tunings(store: Store) -> None:
    time = Time()
    bus = Bus()
    StageClock(bus, time)
    bus.emit(RunFound(uri="x", phases=("head", "fine_tune")))
    with attempt_of(bus, store, 1):
        bus.emit(StageStarted("workers", workers=2))
        bus.emit(TrainingStarted(workers=2, resumed=("head", 13, 0)))
        bus.emit(HeadTrained(converged=True, epoch=13, best=8))
        time.pass_by(5)
        bus.emit(FirstStepMade(at=0, seconds={}))
        time.pass_by(30)
    assert spent(store)["fine_tune"] == 35
    assert "head" not in spent(store)


def test_workers_that_start_again_are_counted_together(store: Store) -> None:
    time = Time()
    bus = Bus()
    StageClock(bus, time)
    with attempt_of(bus, store, 1):
        for _ in range(2):
            bus.emit(TrainingStarted(workers=2, resumed=None))
            time.pass_by(5)
            bus.emit(FirstStepMade(at=0, seconds={}))
            time.pass_by(7)
    assert (spent(store)["workers"], spent(store)["head"]) == (10, 14)


def test_what_a_killed_attempt_has_done_is_there_but_for_the_last_seconds(store: Store) -> None:
    time = Time()
    bus = Bus()
    StageClock(bus, time)
    bus.emit(attempt_started(store))
    bus.emit(StageStarted("fine_tune", workers=2))
    for _ in range(10):
        time.pass_by(10)
        bus.emit(EpochEnded("fine_tune", EpochRecord(1, 0.5, 0.5)))
    assert spent(store)["fine_tune"] == 100


def test_a_store_that_refuses_is_told_of_once_and_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, bus = Heard(), Bus()
    StageClock(bus)
    bus.subscribe(Warned, heard)

    def refuse(key: str, data: bytes) -> str:
        raise StorageError("the disk is full")

    monkeypatch.setattr(store, "write", refuse)
    with attempt_of(bus, store, 1):
        bus.emit(StageStarted("features"))
        bus.emit(StageStarted("export"))
    assert heard.texts == ["warning: How long the run's stages take can't be written down: the disk is full"]


@pytest.mark.parametrize("content", [b"{", b"{}", b""])
def test_what_is_no_list_counts_as_nothing(content: bytes, store: Store) -> None:
    store.write(RunKeys("run").timings, content)
    assert read_timings(store, "run") == []
    bus = Bus()
    StageClock(bus)
    with attempt_of(bus, store, 2):
        pass
    assert [row["attempt"] for row in json.loads(store.read(RunKeys("run").timings))] == [2]
