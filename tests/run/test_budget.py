"""A run takes no more than it may: single rules, and a thousand made-up runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from job.config import Job
from job.config.jobfile import parse_job
from job.errors import JobError
from job.run import budget as room
from job.run.budget import KEEPING, BudgetKeeper, Taken, limits_of, taken_of
from job.run.events import (
    AttemptEnded,
    Bus,
    EpochEnded,
    FeaturesComputed,
    HeadTrained,
    StageStarted,
    StepsMade,
    TrainingStarted,
)
from job.run.outcome import EpochRecord
from job.run.timings import StageClock, StageTiming, read_timings
from job.storage import Store, open_store
from support.events import attempt_started

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
INTERVAL = 60.0
"""Seconds between two checkpoints, by default."""
STEPS = StepsMade("head", epoch=1, epochs=9, step=1, steps=9, examples=32, loss=0.5, seconds=1.0)


def job_of(limits: str, price: float | None = None, workers: str = "2") -> Job:
    scaling = f"{{executor: ray, workers: {workers}, worker_price: {'null' if price is None else price}}}"
    return parse_job(
        f"{{name: any, data: {{source: 'file:///source/'}}, store: 'file:///store/', limits: {limits}, "
        f"scaling: {scaling}}}"
    )


def row(attempt: int, seconds: float, workers: int | None) -> StageTiming:
    return StageTiming(attempt, "features", seconds, workers, computed=None, stored=None)


def test_the_limit_that_is_reached_first_is_at_the_front() -> None:
    job = job_of("{hours: 1, cost: 3, deadline: '2026-12-01T12:30Z'}", price=2)
    taken = taken_of([row(1, 600, None), row(2, 600, 4)], workers=2)
    assert taken == Taken(1200, 600 * 2 + 600 * 4)
    found = limits_of(job, taken, 4, now=NOON)
    assert [(limit.name, limit.left) for limit in found] == [
        ("limits.cost", (3 / 2 * 3600 - 3600) / 4),
        ("limits.deadline", 1800.0),
        ("limits.hours", 2400.0),
    ]
    assert [limit.text for limit in found] == ["3", "2026-12-01 12:30 UTC", "1 h"]
    assert limits_of(job_of("{}"), taken, 4, now=NOON) == []


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ("{cost: 3}", r"limits.cost: scaling.worker_price is needed"),
        ("{hours: 0}", "limits.hours"),
        ("{deadline: '2026-12-01T12:30'}", "limits.deadline: .*timezone"),
        ("{minutes: 3}", "limits.minutes: unknown key"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(limits: str, told: str) -> None:
    with pytest.raises(JobError, match=told):
        job_of(limits)


def test_limits_change_no_result() -> None:
    assert job_of("{hours: 1}").meaning() == job_of("{}").meaning()


@dataclass
class World:
    """A run whose time passes as a test says; the keeper looks once a second."""

    store: Store
    job: Job
    seconds: float = 0.0
    asked: list[str] = field(default_factory=list)
    bus: Bus = field(default_factory=Bus)
    keeper: BudgetKeeper | None = None

    def begin(self, number: int = 1) -> None:
        """An attempt, whose process is a new one."""
        self.bus, self.asked = Bus(), []
        StageClock(self.bus, lambda: self.seconds)
        self.keeper = BudgetKeeper(
            self.bus,
            self.job,
            self.asked.append,
            clock=lambda: self.seconds,
            now=lambda: NOON + timedelta(seconds=self.seconds),
        )
        started = attempt_started(self.store, number=number)
        self.bus.emit(replace(started, run=replace(started.run, job=self.job)))

    def passes(self, seconds: float) -> bool:
        """Whether all of these seconds passed before the run was asked to end."""
        until = self.seconds + seconds
        while self.seconds < until and not self.asked:
            self.seconds = min(until, self.seconds + 1)
            assert self.keeper is not None
            self.bus.emit(STEPS)
            self.keeper.look()
        return not self.asked


@pytest.fixture(autouse=True)
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK", 3600.0)


def epoch(number: int, seconds: float, epochs: int = 10, phase: str = "head") -> EpochEnded:
    record = EpochRecord(number, 0.5, 0.5, loss=0.5, seconds=seconds, examples=100)
    return EpochEnded(phase, record, epochs=epochs)


def test_a_run_is_asked_to_end_in_time_to_keep_a_checkpoint(store: Store) -> None:
    world = World(store, job_of("{hours: 0.1}"))
    world.begin()
    world.bus.emit(TrainingStarted(workers=2, resumed=None))
    assert not world.passes(1000)
    assert world.seconds == 360 - KEEPING
    assert world.asked[0] == "limits.hours: 0.1 h is reached"
    world.keeper.look()
    assert len(world.asked) == 2, "who has not heard it hears it again"
    world.bus.emit(AttemptEnded())


def test_an_epoch_that_can_not_be_finished_is_not_begun(store: Store) -> None:
    world = World(store, job_of("{hours: 0.1}"))
    world.begin()
    assert world.passes(100)
    world.bus.emit(epoch(1, seconds=100))
    assert world.passes(100)
    world.bus.emit(epoch(2, seconds=200))
    assert not world.passes(2)
    assert world.asked == ["limits.hours: 0.1 h leaves 2.3 min, and head epoch 3 takes 3.3 min more"]


@pytest.mark.parametrize("after", [[HeadTrained(converged=True, epoch=2, best=2)], [epoch(10, seconds=200)]])
def test_where_no_other_epoch_follows_none_is_expected(after: list[EpochEnded], store: Store) -> None:
    world = World(store, job_of("{hours: 0.1}"))
    world.begin()
    assert world.passes(200)
    world.bus.emit(epoch(2, seconds=200))
    for event in after:
        world.bus.emit(event)
    assert world.passes(100)


def test_an_extraction_that_can_not_be_finished_ends_as_soon_as_that_is_known(store: Store) -> None:
    world = World(store, job_of("{hours: 0.1}"))
    world.begin()
    world.bus.emit(StageStarted("features", workers=2))
    done = 0
    while world.passes(5):
        done += 50
        world.bus.emit(FeaturesComputed(done=done, of=100_000, rate=10.0))
    assert world.seconds < 60
    assert world.asked[0].startswith("limits.hours: 0.1 h leaves ")
    assert " and the extraction of features takes 2 h 4" in world.asked[0]


def test_what_earlier_attempts_have_taken_counts(store: Store) -> None:
    job = job_of("{hours: 0.1}")
    world = World(store, job)
    world.begin(1)
    assert world.passes(200)
    world.bus.emit(AttemptEnded())
    world.seconds += 10_000  # nobody works on it
    world.begin(2)
    began = world.seconds
    assert not world.passes(1000)
    assert world.seconds - began == 360 - KEEPING - 200 - room.INTERVAL
    world.bus.emit(AttemptEnded())
    world.begin(3)
    assert world.asked, "nothing is begun any more"
    raised = World(store, job_of("{hours: 0.2}"), seconds=world.seconds)
    raised.begin(4)
    assert raised.passes(100)


def test_a_deadline_passes_while_nobody_works(store: Store) -> None:
    world = World(store, job_of("{deadline: '2026-12-01T12:10Z'}"))
    world.begin(1)
    assert world.passes(60)
    world.bus.emit(AttemptEnded())
    world.seconds = 599
    world.begin(2)
    assert world.asked == ["limits.deadline: 2026-12-01 12:10 UTC is reached"]


def test_more_workers_take_more_of_a_price(store: Store) -> None:
    world = World(store, job_of("{cost: 1}", price=1, workers="{min: 1, max: 8}"))
    world.begin()
    world.bus.emit(TrainingStarted(workers=1, resumed=None))
    assert world.passes(600)
    world.bus.emit(TrainingStarted(workers=8, resumed=None))
    assert not world.passes(3600)
    assert world.seconds == 600 + 3000 / 8 - KEEPING


def test_without_limits_nothing_is_watched(store: Store) -> None:
    world = World(store, job_of("{}"))
    world.begin()
    assert world.passes(100)
    world.bus.emit(epoch(2, seconds=1e9))
    assert world.passes(100)


class Trace:
    """A made-up run: its attempts are killed at any time, workers come and go, epochs last as long as they like."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        chance, workers = self.chance, self.chance.choice([1, 2, 8])
        hours, cost, price = chance.uniform(0.03, 0.2), chance.uniform(0.02, 0.5), chance.uniform(0.1, 5)
        deadline = NOON + timedelta(seconds=chance.uniform(100, 2000))
        limits = {"hours": f"{hours}", "cost": f"{cost}", "deadline": f"'{deadline.isoformat()}'"}
        chosen = chance.sample(sorted(limits), chance.randint(1, 3))
        self.job = job_of(
            "{" + ", ".join(f"{name}: {limits[name]}" for name in chosen) + "}", price, f"{{min: 1, max: {workers}}}"
        )
        folder.mkdir()
        self.world = World(open_store(f"file://{folder}/"), self.job)
        self.most, self.workers = workers, workers
        self.taken, self.worked_until = Taken(), 0.0
        """What it has really taken, and when it last did."""
        self.left = chance.randint(1, 60)
        """Epochs until it is finished."""

    def attempt(self, number: int) -> bool:
        """Whether another one follows, since this one was killed."""
        world, chance, self.workers = self.world, self.chance, self.most
        world.begin(number)
        if world.asked:  # nothing is begun
            world.bus.emit(AttemptEnded())
            return False
        killed = world.seconds + chance.expovariate(1 / 300)
        world.bus.emit(StageStarted("workers", workers=self.most))
        usual = chance.uniform(2, 60)
        while self.left:
            if chance.random() < 0.3:
                self.workers = chance.randint(1, self.most)
                world.bus.emit(TrainingStarted(workers=self.workers, resumed=None))
            takes = usual * chance.uniform(0.7, 1.5)
            is_whole = self._passes(min(takes, max(0.0, killed - world.seconds)))
            if not is_whole:
                self._takes(chance.uniform(0, KEEPING))  # until the checkpoint is kept
                world.bus.emit(AttemptEnded())
                return False
            if world.seconds >= killed:
                world.seconds += chance.uniform(0, 100)
                return True
            self.left -= 1
            world.bus.emit(epoch(60 - self.left, seconds=takes, epochs=1000))
        world.bus.emit(AttemptEnded())
        return False

    def _passes(self, seconds: float) -> bool:
        before = self.world.seconds
        is_whole = self.world.passes(seconds)
        self._took(self.world.seconds - before)
        return is_whole

    def _takes(self, seconds: float) -> None:
        self.world.seconds += seconds
        self._took(seconds)

    def _took(self, seconds: float) -> None:
        self.taken, self.worked_until = self.taken.after(seconds, self.workers), self.world.seconds

    def exceeds(self) -> float:
        """Seconds by which it has taken more than it may; negative where it has not."""
        now = NOON + timedelta(seconds=self.worked_until)
        return -limits_of(self.job, self.taken, self.workers, now=now)[0].left


def traces(count: int, folder: Path) -> None:
    worst, finished, stopped, killed = 0.0, 0, 0, 0
    for seed in range(count):
        trace, number = Trace(seed, folder / str(seed)), 1
        while trace.attempt(number):
            number += 1
        killed += number - 1
        if trace.left:
            stopped += 1
        else:
            finished += 1
        worst = max(worst, trace.exceeds())
        assert trace.exceeds() <= INTERVAL, f"{seed}: {trace.job.limits}, {trace.taken}, {number} attempts"
        assert read_timings(trace.world.store, "run")
    print(f"{count} runs: {finished} finished, {stopped} stopped, {killed} kills; {worst:.1f} s over at most")
    assert min(finished, stopped, killed) > count / 10


def test_some_runs_take_no_more_than_they_may(tmp_path: Path) -> None:
    traces(30, tmp_path)


@pytest.mark.slow
def test_a_thousand_runs_take_no_more_than_they_may(tmp_path: Path) -> None:
    traces(1000, tmp_path)
