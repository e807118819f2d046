"""The events of a run: one class for each kind of event, and the bus that passes them to their listeners.

A stage emits an event and goes on; it does not know who listens. Listeners turn an event into a line on the terminal or
in the JSON log (job.telemetry.lines), an annotation of the RayJob (job.deploy.progress), a gauge, a curve, or a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from job.data.snapshot import Snapshot
from job.model.anatomy import BlockSize
from job.run.instruments import WorkerMetrics
from job.run.outcome import BlockVerdict, EpochRecord, WordStatistics
from job.run.run import Run
from job.storage.run_keys import run_id_of


@dataclass(frozen=True)
class Event:
    """Something that has happened."""

    kind: ClassVar[str]
    """The name of the event in the JSON log. Events that readers of logs need not distinguish share one."""


E = TypeVar("E", bound=Event)
Emit = Callable[[Event], None]
"""Passes an event to its listeners. It may be called from any thread."""


class Bus:
    """Passes each event to the listeners of its class and of its base classes, in the order of subscription and in the
    thread that emits it. The events of a stage come from one thread; others (warnings of writers, of the lease) come
    beside them: a listener that keeps state for all kinds has its own lock.
    """

    def __init__(self) -> None:
        self._listeners: list[tuple[type[Event], Callable[[Any], None]]] = []

    def subscribe(self, kind: type[E], listener: Callable[[E], None]) -> None:
        self._listeners.append((kind, listener))

    def emit(self, event: Event) -> None:
        for kind, listener in tuple(self._listeners):
            if isinstance(event, kind):
                listener(event)


class Measured(Protocol):
    """The part of an Executor that measuring needs."""

    scraped: float
    """Seconds that a run waits at its end for Prometheus to read its metrics; 0 where these outlive the run."""

    @property
    def metrics(self) -> WorkerMetrics: ...


# Messages.


@dataclass(frozen=True)
class Announced(Event):
    """A message that every user should see."""

    kind = "stage"
    text: str


@dataclass(frozen=True)
class Noted(Event):
    """A detail, for users who look for the reason of something."""

    kind = "note"
    text: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that is probably not what the user meant."""

    kind = "warning"
    text: str


# The course of a run.


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage has started, and the one before has ended. Their durations are in `runs/<run>/timings.json`."""

    kind = "stage"
    stage: str
    """`indexing`, `listing`, `comparing`, `features`, `workers`, `export`, `promotion` or `report`."""
    text: str = ""
    """A message for the user; empty for none."""
    workers: int | None = None
    """The number of workers in this stage; None where the driver does the work."""


@dataclass(frozen=True)
class RunFound(Event):
    """The run has been identified."""

    kind = "run"
    uri: str
    phases: tuple[str, ...]
    """The phases of this attempt, in order: `head`, `fine_tune`."""

    @property
    def id(self) -> str:
        return run_id_of(self.uri)


@dataclass(frozen=True)
class AttemptStarted(Event):
    """This process has taken the run: an attempt begins."""

    kind = "attempt"
    number: int
    run: Run
    executor: Measured


@dataclass(frozen=True)
class AttemptEnded(Event):
    """The attempt ends, also by an error. Emitted before the lease of the run is released."""

    kind = "attempt"
    error: BaseException | None = None


@dataclass(frozen=True)
class RunProgress(Event):
    """The progress of the run; emitted whenever it changes."""

    kind = "progress"
    phase: str = "prepare"
    """`prepare`, `index`, `extract`, `head`, `fine_tune` or `export`."""
    percent: float = 0.0
    """The part of the whole run that is done."""
    done: int | None = None
    """The number of shards, examples or steps of this phase that are done."""
    of: int | None = None
    """The number of all of these, at most: a phase may converge before its last epoch."""
    epoch: int | None = None
    """The current epoch, or the one that has just ended."""
    epochs: int | None = None
    step: int | None = None
    """The step within the epoch; None at its end."""
    loss: float | None = None
    accuracy: float | None = None
    """The accuracy on the validation split after the last complete epoch."""
    rate: float | None = None
    """Examples per second."""
    left: float | None = None
    """The most seconds that this phase still takes."""


# The data.


@dataclass(frozen=True)
class ObjectsListed(Event):
    """Progress of a listing that takes long."""

    kind = "listing"
    count: int
    """Objects, or records of packed files, so far."""


@dataclass(frozen=True)
class SnapshotTaken(Event):
    """The source is listed, and its snapshot taken."""

    kind = "snapshot"
    snapshot: Snapshot


@dataclass(frozen=True)
class ShardsIndexed(Event):
    """Progress of indexing: `done` of `of` packed files without an index have one now."""

    kind = "index"
    done: int
    of: int


@dataclass(frozen=True)
class FeaturesCounted(Event):
    """The number of examples whose features are stored, before the missing ones are computed."""

    kind = "stage"
    what: str
    """`words` or `features`."""
    computed: int
    """Examples whose features this attempt computes."""
    stored: int
    """Examples whose features are stored already."""


@dataclass(frozen=True)
class FeaturesComputed(Event):
    """Progress of extraction: `done` of `of` examples have their features."""

    kind = "extract"
    done: int
    of: int
    rate: float | None
    """Examples per second; None until it can be measured."""


@dataclass(frozen=True)
class ExamplesRejected(Event):
    """Objects were rejected."""

    kind = "rejects"
    total: int
    listing: dict[str, int]
    """The number of objects that the listing rejected, by reason."""
    decoding: list[str]
    """The first examples that could not be decoded, each with its reason."""


@dataclass(frozen=True)
class WordsCounted(Event):
    """The words of the texts were counted, and those without a pretrained vector."""

    kind = "words"
    words: WordStatistics


# Training: emitted by the worker of rank 0.


@dataclass(frozen=True)
class WorkersForming(Event):
    """The workers of a group begin to connect to each other."""

    kind = "forming"
    addresses: list[str]
    """The addresses of all workers, by rank."""
    proxies: str
    """The proxy settings, which may prevent the connection; empty where no proxy is set."""


@dataclass(frozen=True)
class WorkersFormed(Event):
    """The workers of a group are connected to each other."""

    kind = "formed"


@dataclass(frozen=True)
class WorkerFailed(Event):
    """A worker has ended with an error that the user can fix. The driver raises it again."""

    kind = "error"
    error: str
    """The name of the error's class in job.errors."""
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class TrainingStarted(Event):
    """A group of workers starts to train, or resumes from a checkpoint."""

    kind = "start"
    workers: int
    resumed: tuple[str, int, int] | None
    """(phase, complete epochs, steps of the next epoch) of the checkpoint that it resumes from; None for a start."""


@dataclass(frozen=True)
class FirstStepMade(Event):
    """The group has made its first step."""

    kind = "ready"
    at: float
    """The UNIX time of the step, in seconds."""
    seconds: dict[str, float]
    """The seconds until then, by what they were spent on."""


@dataclass(frozen=True)
class StepsMade(Event):
    """Progress within an epoch; emitted at most once a second."""

    kind = "step"
    phase: str
    epoch: int
    epochs: int
    """The most epochs of the phase."""
    step: int
    steps: int
    """Steps of a whole epoch."""
    examples: int
    """Examples of the epoch so far, over all workers."""
    loss: float
    """The mean loss of the epoch's steps so far."""
    seconds: float
    """Seconds since the epoch began."""


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch has been trained and validated. Epoch 0 is the validation of the model that a phase begins with."""

    kind = "epoch"
    phase: str
    record: EpochRecord
    epochs: int | None = None
    """The most epochs of the phase; None for epoch 0."""
    steps: int | None = None
    """The steps of the whole run so far."""
    losses: np.ndarray | None = field(default=None, repr=False)
    """The losses of the epoch's steps, float32 [n]."""


@dataclass(frozen=True)
class Histogram:
    """The distribution of the values of a variable."""

    count: int
    sum: float
    squares: float
    """The sum of the squares."""
    limits: np.ndarray
    """The limits of the bins, which have one width, float64 [bins + 1]."""
    counts: np.ndarray
    """int64 [bins]"""


@dataclass(frozen=True)
class WeightsMeasured(Event):
    """The distributions of the thawed weights after an epoch."""

    kind = "weights"
    steps: int
    """The steps of the whole run so far."""
    histograms: dict[str, Histogram]
    """By the path of the variable."""


@dataclass(frozen=True)
class HeadTrained(Event):
    """The head's phase is over."""

    kind = "head"
    converged: bool
    epoch: int
    best: int
    """The epoch with the lowest validation loss."""
    before: bool = False
    """Whether it was trained by workers before these."""


@dataclass(frozen=True)
class LayersThawed(Event):
    """Layers were thawed for fine-tuning."""

    kind = "thaw"
    blocks: list[BlockSize]
    """From the bottom to the top, the head last."""


@dataclass(frozen=True)
class BlockTried(Event):
    """The decision of `unfreeze: auto` about a block."""

    kind = "block"
    verdict: BlockVerdict


@dataclass(frozen=True)
class HandedOver(Event):
    """The workers have trained the head. Other workers, which have GPUs, go on from its last checkpoint."""

    kind = "start"


@dataclass(frozen=True)
class TrainingEnded(Event):
    """The workers have finished training."""

    kind = "trained"
    kept: str
    """The better model on the validation split: `head` or `fine_tune`."""
    fine_tuned: bool
    """Whether there are both models."""


# After training.


@dataclass(frozen=True)
class PromotionDecided(Event):
    """It is decided whether the run's model is put into use."""

    kind = "promotion"
    promoted: bool
    reason: str
