"""What happens in a run, as values: one class for each kind of event, and the bus that hands them to their listeners.

A stage emits an event and goes on; it does not know who listens. What becomes of an event: a line on the terminal or in
the JSON log (job.telemetry.lines), an annotation of the RayJob (job.deploy.progress), a gauge, a curve, a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from job.data.snapshot import Snapshot
from job.run.instruments import WorkerMetrics
from job.run.run import Run


@dataclass(frozen=True)
class Event:
    """Something that has happened."""

    kind: ClassVar[str]
    """Its name in the JSON log: the same for events that a reader of logs need not tell apart."""


E = TypeVar("E", bound=Event)
Emit = Callable[[Event], None]
"""Hands an event to whoever listens. It may be called from any thread."""


class Bus:
    """Hands each event to the listeners of its class, and of the classes above it, in the order of subscription and in
    the thread of who emits it. A listener that keeps state has a lock of its own.
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
    """What does the work of a run, for those who measure it."""

    scraped: float
    """Seconds that a run which ends should wait for Prometheus; 0 where what it reads does not end with the run."""

    @property
    def metrics(self) -> WorkerMetrics: ...


# What is told in words.


@dataclass(frozen=True)
class Announced(Event):
    """Something that everybody should know."""

    kind = "stage"
    text: str


@dataclass(frozen=True)
class Noted(Event):
    """A detail: who looks for the reason of something finds it here."""

    kind = "note"
    text: str


@dataclass(frozen=True)
class Warned(Event):
    """Something that is probably not what the user meant."""

    kind = "warning"
    text: str


# The way of a run.


@dataclass(frozen=True)
class StageStarted(Event):
    """The stage before it has ended. How long each takes is in `runs/<run>/timings.json`."""

    kind = "stage"
    stage: str
    """`indexing`, `listing`, `comparing`, `features`, `workers`, `export`, `promotion` or `report`."""
    text: str = ""
    """What a person is told of it, if anything."""
    workers: int | None = None
    """How many work at it; None where the driver does."""


@dataclass(frozen=True)
class RunFound(Event):
    """The run has its name."""

    kind = "run"
    uri: str
    phases: tuple[str, ...]
    """Those that it goes through this time, in order: `head`, `fine_tune`."""

    @property
    def id(self) -> str:
        return self.uri.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class AttemptStarted(Event):
    """This process has taken the run."""

    kind = "attempt"
    number: int
    run: Run
    executor: Measured


@dataclass(frozen=True)
class AttemptEnded(Event):
    """Emitted before the run is given back, also where the attempt has failed."""

    kind = "attempt"
    error: BaseException | None = None


@dataclass(frozen=True)
class RunProgress(Event):
    """How far the run is, whenever that changes."""

    kind = "progress"
    phase: str = "prepare"
    """`prepare`, `index`, `extract`, `head`, `fine_tune` or `export`."""
    percent: float = 0.0
    """How much of the whole run is done."""
    done: int | None = None
    """How many of the shards, the examples or the steps of this phase are done."""
    of: int | None = None
    """At most: a phase may converge before its last epoch."""
    epoch: int | None = None
    """The one that is under way, or the one that has just ended."""
    epochs: int | None = None
    step: int | None = None
    """Within the epoch; None at its end."""
    loss: float | None = None
    accuracy: float | None = None
    """On the validation split, after the epoch before."""
    rate: float | None = None
    """Examples a second."""
    left: float | None = None
    """Seconds of this phase, at most."""


# The data.


@dataclass(frozen=True)
class SnapshotTaken(Event):
    """The source is listed."""

    kind = "snapshot"
    snapshot: Snapshot


@dataclass(frozen=True)
class ShardsIndexed(Event):
    """So many of the packed files that had no index have one."""

    kind = "index"
    done: int
    of: int


@dataclass(frozen=True)
class FeaturesCounted(Event):
    """What is stored already, before the rest is computed."""

    kind = "stage"
    what: str
    """`words` or `features`."""
    computed: int
    """Examples whose features this attempt computes."""
    stored: int
    """Examples that have theirs."""


@dataclass(frozen=True)
class FeaturesComputed(Event):
    """So many examples have their features."""

    kind = "extract"
    done: int
    of: int
    rate: float | None
    """Examples a second; None as long as there is nothing to go by."""


@dataclass(frozen=True)
class ExamplesRejected(Event):
    """Objects that are no examples."""

    kind = "rejects"
    total: int
    listing: dict[str, int]
    """How many the listing rejected, by reason."""
    decoding: list[str]
    """The first of those that could not be decoded, with the reason."""


@dataclass(frozen=True)
class WordsCounted(Event):
    """The words of the texts, and how many of them have no pretrained vector."""

    kind = "words"
    words: dict[str, Any]
    """As result.json has them: job.features.run_words.note_words."""


# Training: emitted by the worker of rank 0.


@dataclass(frozen=True)
class WorkersForming(Event):
    """The workers of a group begin to look for each other."""

    kind = "forming"
    addresses: list[str]
    """Of all workers, by rank."""
    proxies: str
    """What is set for proxies, which may keep them apart; empty where nothing is."""


@dataclass(frozen=True)
class WorkersFormed(Event):
    """The workers of a group have found each other."""

    kind = "formed"


@dataclass(frozen=True)
class WorkerFailed(Event):
    """A worker has ended with an error that the user can mend: it is made again where the run is."""

    kind = "error"
    error: str
    """The name of a class of job.errors."""
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class TrainingStarted(Event):
    """A group of workers begins, or goes on."""

    kind = "start"
    workers: int
    resumed: tuple[str, int, int] | None
    """(phase, epochs made, steps made of the next one) of the checkpoint that it goes on from."""


@dataclass(frozen=True)
class FirstStepMade(Event):
    """The group has made its first step."""

    kind = "ready"
    at: float
    """UNIX time, seconds."""
    seconds: dict[str, float]
    """What the time until then was spent on."""


@dataclass(frozen=True)
class StepsMade(Event):
    """How far an epoch is; at most once a second."""

    kind = "step"
    phase: str
    epoch: int
    epochs: int
    """At most."""
    step: int
    steps: int
    """Steps of a whole epoch."""
    examples: int
    """Examples of the epoch so far, over all workers."""
    loss: float
    """The mean of the epoch's steps so far."""
    seconds: float
    """Since the epoch began."""


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch is made and validated; or, as epoch 0, a phase has measured the model that it begins with, which has
    nothing but the fields of the validation split.
    """

    kind = "epoch"
    phase: str
    epoch: int
    validation_loss: float
    validation_accuracy: float
    loss: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    examples: int | None = None
    digest: str | None = None
    """Proof that each example was seen once."""
    blocks: int | None = None
    """With `unfreeze: auto`: how many blocks are thawed."""
    epochs: int | None = None
    """The last epoch of the phase, at most."""
    steps: int | None = None
    """Of the whole run so far."""
    losses: np.ndarray | None = field(default=None, repr=False)
    """Of the epoch's steps, float32 [n]."""


@dataclass(frozen=True)
class WeightsMeasured(Event):
    """How the thawed weights are spread after an epoch."""

    kind = "weights"
    steps: int
    """Of the whole run so far."""
    histograms: dict[str, dict[str, Any]]
    """job.training.measure.histogram of each variable, by path."""


@dataclass(frozen=True)
class HeadTrained(Event):
    """The head's phase is over."""

    kind = "head"
    converged: bool
    epoch: int
    best: int
    """The epoch with the lowest validation loss."""


@dataclass(frozen=True)
class LayersThawed(Event):
    """What trains in fine-tuning."""

    kind = "thaw"
    rows: list[list[Any]]
    """[block, layers, parameters, trainable parameters], from the bottom."""


@dataclass(frozen=True)
class BlockTried(Event):
    """What `unfreeze: auto` has decided about a block."""

    kind = "block"
    block: str
    blocks: int
    """How many are thawed with it."""
    before: float
    """The validation loss without it."""
    after: float
    share: float
    """The share of resamples in which the loss is lower."""
    pays: bool


@dataclass(frozen=True)
class TrainingEnded(Event):
    """The workers are through."""

    kind = "trained"
    kept: str
    """The better one on the validation split: `head` or `fine_tune`."""
    fine_tuned: bool
    """Whether there are two."""


# After training.


@dataclass(frozen=True)
class PromotionDecided(Event):
    """Whether the run's model is the one in use from now on."""

    kind = "promotion"
    promoted: bool
    reason: str
