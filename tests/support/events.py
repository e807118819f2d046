"""Events of a run that never was, and who listens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot
from job.model.resolved import ResolvedBase
from job.run.events import AttemptStarted, Bus, Event
from job.run.run import Run
from job.storage import Store
from job.telemetry.narrator import Narrator
from job.telemetry.output import Output
from job.telemetry.run_progress import ProgressTracker
from support.measuring import FakeMetrics

COUNTS = {split: {"a": 2} for split in ("train", "validation", "test")}
SNAPSHOT = Snapshot("id", 6, ["a"], COUNTS, {"empty object": 1}, {"a": 1})
BASE = ResolvedBase("0" * 64)
JOB = "{name: any, data: {source: 'file:///source/'}, store: 'file:///store/'}"


class Heard(list[Event]):
    """The events that were emitted: this is an `emit` of its own."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self]

    @property
    def texts(self) -> list[str]:
        """Of those that are told in words, `<kind>: <text>`."""
        return [f"{event.kind}: {event.text}" for event in self if hasattr(event, "text")]

    def of(self, kind: str) -> list[str]:
        """The texts of this kind."""
        return [text.removeprefix(f"{kind}: ") for text in self.texts if text.startswith(f"{kind}: ")]


@dataclass
class Executor:
    """One that is only asked for figures."""

    metrics: Any = field(default_factory=FakeMetrics)
    scraped: float = 0.0


def run_of(store: Store, run: str = "run") -> Run:
    return Run(parse_job(JOB), run, store, SNAPSHOT, BASE)


def attempt_started(
    store: Store, run: str = "run", number: int = 1, executor: Executor | None = None
) -> AttemptStarted:
    return AttemptStarted(number, run_of(store, run), executor or Executor())


def narrated(output: Output, *clock: Callable[[], float]) -> Narrator:
    """A narrator that knows how far a run is, as that of a run does."""
    bus = Bus()
    ProgressTracker(bus)
    return Narrator(bus, output, *clock)
