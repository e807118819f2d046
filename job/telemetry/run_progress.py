"""How far a run has come, from the events that it tells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from job.errors import ObjectMissing
from job.run.events import (
    AttemptEnded,
    AttemptStarted,
    Bus,
    EpochEnded,
    FeaturesComputed,
    HeadTrained,
    LayersThawed,
    RunFound,
    RunProgress,
    ShardsIndexed,
    SnapshotTaken,
    StepsMade,
    TrainingEnded,
    TrainingStarted,
)
from job.storage import Store
from job.storage.documents import decoded
from job.storage.run_keys import RunKeys
from job.telemetry.background_writer import BackgroundWriter
from job.wording import clock

Shares = dict[str, tuple[float, float]]
FIRST: Shares = {"prepare": (0, 2), "index": (0, 2), "extract": (2, 40), "export": (96, 100)}
"""Where each phase begins and ends, in percent of the run."""
BOTH: Shares = {"head": (40, 60), "fine_tune": (60, 96)}
HEAD_ONLY: Shares = {"head": (40, 96)}
WORDS = {"prepare": "preparing", "index": "shards indexed", "extract": "features", "export": "export"}


class ProgressTracker:
    """Emits a RunProgress whenever an event changes how far the run is, before those who subscribed later hear of that
    event.

    Each phase has a fixed share of the run (FIRST, BOTH), which is filled in proportion to its examples or steps. A
    phase that converges before its last epoch jumps to its end, and stages whose work is stored already are passed in
    no time. The percentage never falls: features that are computed again, or an epoch that is trained again, leave it
    where it was; another run begins anew.
    """

    def __init__(self, bus: Bus) -> None:
        self.now, self._run_uri, self._emit = RunProgress(), "", bus.emit
        self._shares: Shares = {**FIRST, **BOTH}
        bus.subscribe(RunFound, self._run_found)
        bus.subscribe(SnapshotTaken, lambda event: self._at("prepare", 0))
        bus.subscribe(ShardsIndexed, self._shards_indexed)
        bus.subscribe(FeaturesComputed, self._features_computed)
        bus.subscribe(TrainingStarted, lambda event: self._at(event.resumed[0] if event.resumed else "head", 0))
        bus.subscribe(StepsMade, self._steps_made)
        bus.subscribe(EpochEnded, self._epoch_ended)
        bus.subscribe(HeadTrained, lambda event: self._at("head", 1))
        bus.subscribe(LayersThawed, lambda event: self._at("fine_tune", 0))
        bus.subscribe(TrainingEnded, lambda event: self._at("export", 0))

    def _run_found(self, event: RunFound) -> None:
        if event.uri != self._run_uri:
            self.now, self._run_uri = RunProgress(), event.uri
        self._shares = {**FIRST, **(BOTH if "fine_tune" in event.phases else HEAD_ONLY)}
        self._at("prepare", 1)

    def _shards_indexed(self, index: ShardsIndexed) -> None:
        self._at("index", index.done / index.of, done=index.done, of=index.of)

    def _features_computed(self, features: FeaturesComputed) -> None:
        done, of, rate = features.done, features.of, features.rate
        self._at("extract", done / of, done=done, of=of, rate=rate, left=(of - done) / rate if rate else None)

    def _steps_made(self, steps: StepsMade) -> None:
        done, of = (steps.epoch - 1) * steps.steps + steps.step, steps.epochs * steps.steps
        self._at(
            steps.phase,
            done / of,
            done=done,
            of=of,
            epoch=steps.epoch,
            epochs=steps.epochs,
            step=steps.step,
            loss=steps.loss,
            accuracy=self.now.accuracy if self.now.phase == steps.phase else None,
            rate=steps.examples / steps.seconds if steps.seconds else None,
            left=(of - done) * steps.seconds / steps.step if steps.seconds else None,
        )

    def _epoch_ended(self, event: EpochEnded) -> None:
        record, epochs, rate, left = event.record, event.epochs, None, None
        if epochs and record.seconds and record.examples:
            rate, left = record.examples / record.seconds, (epochs - record.epoch) * record.seconds
        self._at(
            event.phase,
            record.epoch / epochs if epochs else 0,
            epoch=record.epoch,
            epochs=epochs,
            loss=record.validation_loss if record.loss is None else record.loss,
            accuracy=record.validation_accuracy,
            rate=rate,
            left=left,
        )

    def _at(self, phase: str, part: float, **figures: Any) -> None:
        begin, end = self._shares.get(phase, (0, 0))
        percent = max(self.now.percent, begin + (end - begin) * min(part, 1))
        self.now = RunProgress(phase, percent, **figures)
        self._emit(self.now)


@dataclass(frozen=True)
class _Writer:
    """What standing.json has beside a RunProgress."""

    attempt: int


class ProgressFile:
    """`runs/<run>/standing.json`: how far the attempt is, written every few seconds for those who are elsewhere."""

    def __init__(self, bus: Bus) -> None:
        self._emit = bus.emit
        self._attempt: AttemptStarted | None = None
        self._writer: BackgroundWriter | None = None
        bus.subscribe(AttemptStarted, self._started)
        bus.subscribe(RunProgress, self._progressed)
        bus.subscribe(AttemptEnded, self._ended)

    def _started(self, attempt: AttemptStarted) -> None:
        self._attempt = attempt
        self._writer = BackgroundWriter(attempt.run.store, "How far the run is", self._emit)

    def _progressed(self, now: RunProgress) -> None:
        if self._attempt and self._writer:
            document = {"attempt": self._attempt.number, **asdict(now)}
            self._writer.put(self._attempt.run.keys.progress, json.dumps(document).encode())

    def _ended(self, event: AttemptEnded) -> None:
        if self._writer:
            self._writer.close()


def read_progress(store: Store, run: str, attempt: int) -> RunProgress | None:
    """How far this attempt is, as far as it has written it down."""
    key = RunKeys(run).progress
    try:
        content, where = store.read(key), f"{store.uri}{key}"
    except ObjectMissing:
        return None
    if decoded(content, _Writer, where).attempt != attempt:
        return None
    return decoded(content, RunProgress, where)


def describe(now: RunProgress, left: bool = True) -> str:
    """In one line, without the percentage; `left`: with the time that is left."""
    what = now.phase.replace("_", "-")
    if now.epoch is not None:
        parts = [f"{what} epoch {now.epoch}" + (f" of {now.epochs}" if now.epochs else "")]
    elif now.of:
        parts = [f"{WORDS.get(now.phase, what)}: {now.done} of {now.of}{' examples' * (now.phase == 'extract')}"]
    else:
        parts = [WORDS.get(now.phase, what)]
    if now.loss is not None:
        parts.append(f"loss {now.loss:.4f}")
    if now.accuracy is not None:
        parts.append(f"accuracy {now.accuracy:.4f}")
    if now.rate:
        parts.append(f"{now.rate:.0f} a second")
    if left and now.left:
        parts.append(f"{clock(now.left)} left")
    return ", ".join(parts)
