"""`limits`: a run ends, with a checkpoint, before it takes more than it may, and begins nothing that it can't finish.

What it has taken is known from its timings (`runs/<run>/timings.json`), of all of its attempts. A killed one has not
written its last seconds: so many are added for each attempt before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from job.config import Job
from job.run.events import (
    AttemptEnded,
    AttemptStarted,
    Bus,
    EpochEnded,
    Event,
    FeaturesComputed,
    HeadTrained,
    StageStarted,
    TrainingEnded,
    TrainingStarted,
)
from job.run.timings import INTERVAL, StageTiming, read_timings
from job.wording import duration

LOOK = 1.0
"""Seconds between two looks at what is left."""
KEEPING = 20.0
"""Seconds before a limit at which the run is asked to end: workers hear of it, and keep a checkpoint."""
LEARNING = 30.0
"""Seconds of extraction after which its rate tells how long the rest takes."""
SLACK = 1.1
"""What is estimated to take more than what is left, by this factor, can't be finished."""


@dataclass(frozen=True)
class Taken:
    """What a run has taken so far."""

    seconds: float = 0.0
    worker_seconds: float = 0.0

    def after(self, seconds: float, workers: int) -> Taken:
        return Taken(self.seconds + seconds, self.worker_seconds + seconds * workers)


@dataclass(frozen=True)
class Limit:
    """One of a job's limits."""

    name: str
    """`limits.hours`, `limits.cost` or `limits.deadline`."""
    text: str
    """What the job file says, with its unit."""
    left: float
    """Seconds until it is reached by so many workers as there are; negative where it is exceeded."""


def limits_of(job: Job, taken: Taken, workers: int, *, now: datetime) -> list[Limit]:
    """The limits of the job, the one that is reached first at the front."""
    limits, price = job.limits, job.scaling.worker_price
    found = []
    if limits.hours is not None:
        found.append(Limit("limits.hours", f"{limits.hours:g} h", 3600 * limits.hours - taken.seconds))
    if limits.cost is not None and price:
        payable = 3600 * limits.cost / price - taken.worker_seconds
        found.append(Limit("limits.cost", f"{limits.cost:g}", payable / workers))
    if limits.deadline is not None:
        left = (limits.deadline - now).total_seconds()
        found.append(Limit("limits.deadline", f"{limits.deadline:%Y-%m-%d %H:%M %Z}", left))
    return sorted(found, key=lambda limit: limit.left)


def taken_of(timings: list[StageTiming], workers: int) -> Taken:
    """What these stages took; `workers` are held where a stage does not say how many."""
    taken = Taken()
    for row in timings:
        taken = taken.after(row.seconds, row.workers or workers)
    return taken


@dataclass(frozen=True)
class Unit:
    """What is under way, and can't be divided without having been begun in vain."""

    what: str
    ends: float
    """When it does, as far as is known, on the keeper's clock."""


class BudgetKeeper:
    """Asks a run to end before a limit is reached. Of a job without limits it does nothing."""

    def __init__(
        self,
        bus: Bus,
        job: Job,
        ask: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`ask` is called with the reason, from any thread and again and again."""
        self.reached = ""
        """Why the run was asked to end; empty where it was not."""
        self._job, self._ask, self._clock, self._now = job, ask, clock, now
        self._taken, self._workers = Taken(), 1
        self._since = clock()
        self._unit: Unit | None = None
        self._extracts_since: float | None = None
        self._over = threading.Event()
        self._lock = threading.RLock()
        if job.limits.any:
            bus.subscribe(Event, self._heard)

    def look(self) -> None:
        """Asks the run to end where it has to."""
        with self._lock:
            self._lap()
            limits = limits_of(self._job, self._taken, self._workers, now=self._now())
            if limits and not self.reached:
                self.reached = self._why(limits[0])
            if self.reached:
                self._ask(self.reached)

    def _why(self, limit: Limit) -> str:
        """Why the run has to end now; empty where it has not."""
        left = limit.left - KEEPING
        if left <= 0:
            return f"{limit.name}: {limit.text} is reached"
        if self._unit and self._unit.ends - self._clock() > SLACK * left:
            needs = duration(self._unit.ends - self._clock())
            return f"{limit.name}: {limit.text} leaves {duration(left)}, and {self._unit.what} takes {needs} more"
        return ""

    def _heard(self, event: Event) -> None:
        with self._lock:
            match event:
                case AttemptStarted():
                    self._begin(event)
                case AttemptEnded():
                    self._over.set()
                case StageStarted() | HeadTrained() | TrainingEnded():
                    self._unit = self._extracts_since = None
                case TrainingStarted():
                    self._lap()
                    self._unit, self._workers = None, event.workers
                case FeaturesComputed():
                    self._extracted(event)
                case EpochEnded():
                    self._epoch_ended(event)

    def _begin(self, attempt: AttemptStarted) -> None:
        run, self._job = attempt.run, attempt.run.job  # where `scaling.workers: auto` is a number
        self._workers = self._job.scaling.max_workers
        before = [row for row in read_timings(run.store, run.id) if row.attempt != attempt.number]
        unwritten = INTERVAL * (attempt.number - 1)
        self._taken = taken_of(before, self._workers).after(unwritten, self._workers)
        threading.Thread(target=self._watch, name="limits", daemon=True).start()
        self.look()

    def _watch(self) -> None:
        while not self._over.wait(LOOK):
            self.look()

    def _lap(self) -> None:
        now = self._clock()
        self._taken, self._since = self._taken.after(now - self._since, self._workers), now

    def _extracted(self, features: FeaturesComputed) -> None:
        now = self._clock()
        self._extracts_since = now if self._extracts_since is None else self._extracts_since
        if features.rate and now - self._extracts_since >= LEARNING:
            self._unit = Unit("the extraction of features", now + (features.of - features.done) / features.rate)

    def _epoch_ended(self, event: EpochEnded) -> None:
        """The next epoch takes as long, where there is one."""
        self._unit = None
        seconds = event.record.seconds
        if seconds and event.record.epoch and event.record.epoch != event.epochs:
            what = f"{event.phase.replace('_', '-')} epoch {event.record.epoch + 1}"
            self._unit = Unit(what, self._clock() + seconds)
