"""What a training worker knows of those who started it, and of the other workers."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

from job.config import Job
from job.data.snapshot import Snapshot
from job.model.resolved import ResolvedBase
from job.run.events import Event
from job.run.instruments import WorkerMetrics


@dataclass(frozen=True)
class WarmSource:
    """A finished run whose model is started from."""

    run: str
    classes: list[str]
    fine_tuned: bool
    """Whether fine-tuning starts from its layers, too."""


@dataclass(frozen=True)
class WarmStart:
    """warm_start.json, decided once for each run."""

    source: WarmSource | None
    """The model whose head to start from; None: afresh."""
    reason: str
    """The reason in one line."""


@dataclass(frozen=True)
class Recipe:
    """What is to be trained, and from what."""

    job: Job
    run: str
    attempt: int
    until: str
    """The last phase: `head` or `fine_tune`."""
    last: bool
    """Whether these workers end the training. Else others go on from their last checkpoint, and nothing is written
    besides."""
    snapshot: Snapshot
    base: ResolvedBase
    cut: str | None
    """The layer whose stored output fine-tuning starts from; None: from what is decoded."""
    warm_start: WarmSource | None
    """The model to start from; None: afresh."""


@dataclass(frozen=True)
class Start:
    """What a group of workers is to do."""

    pause: float = 0.0
    """Seconds to wait first."""
    refused: str = ""
    """Why it may not begin."""
    noticed: float | None = None
    """When the end of the group before it was noticed (UNIX time, seconds)."""


class WorkerProcess(Protocol):
    """One worker of a group. Those of a node share its disk: they have a `local_rank` among `local_world_size`."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    cpus: int
    """Cores of this worker."""
    metrics: WorkerMetrics

    def emit(self, event: Event) -> None:
        """Sends an event to the driver."""

    def from_first(self, value: Any) -> Any:
        """What rank 0 has given, on every worker: all of them call it."""

    def start(self, checkpoint: str) -> Start:
        """Called by rank 0: a group is about to go on from this checkpoint ("" for the start)."""

    def is_over(self) -> bool:
        """Whether another group has come to the end already."""

    def end(self) -> None:
        """Called by rank 0 once everything is written: no group has anything to do any more."""

    def listen(self) -> threading.Event:
        """Set once somebody wants the workers to keep a checkpoint and to end."""

    def leave(self, why: str) -> None:
        """Ends this process at once: it does not get on, and what it waits for may never come."""
