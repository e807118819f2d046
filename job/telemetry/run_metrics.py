"""What Prometheus reads of a run as a whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from job.errors import NotFinite
from job.run.events import (
    AttemptEnded,
    AttemptStarted,
    Bus,
    EpochEnded,
    Event,
    ExamplesRejected,
    FeaturesCounted,
    Noted,
    StageStarted,
    Warned,
)
from job.run.instruments import Instrument

GAUGES = {
    "thaw_listed_examples": "Examples of the snapshot, in all splits.",
    "thaw_rejects": "Objects that are no examples, as far as is known.",
    "thaw_features_stored": "Examples whose features were stored before this attempt.",
    "thaw_features_computed": "Examples whose features this attempt computes.",
    "thaw_validation_loss": "After the last epoch.",
    "thaw_validation_accuracy": "After the last epoch.",
    "thaw_last_progress_time_seconds": "When the run last got on, in UNIX time: a stage, examples, a step, an epoch.",
    "thaw_loss_not_finite": "1 where the loss or a weight is not finite, and the run therefore ends.",
}
LABELS = ("run_id",)
STANDING_STILL = (Noted, Warned)
"""Events that may come again and again while nothing else does."""
REPEATED = 5.0
"""Seconds after which the gauges are set again: what was not set for 10 seconds is exported no more."""


class RunGauges:
    """The gauges of a run, from when others begin to work for it to the end of the attempt.

    A run on a cluster that ends by NotFinite waits until Prometheus has read so.
    """

    def __init__(
        self, bus: Bus, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.time
    ) -> None:
        self._sleep, self._clock = sleep, clock
        self._attempt: AttemptStarted | None = None
        self._gauges: dict[str, Instrument] = {}
        self._values: dict[str, float] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="metrics", daemon=True)
        bus.subscribe(AttemptStarted, self._attempt_started)
        bus.subscribe(StageStarted, self._stage_started)
        bus.subscribe(Event, self._progressed)
        bus.subscribe(FeaturesCounted, self._features_counted)
        bus.subscribe(ExamplesRejected, lambda rejects: self._set(thaw_rejects=rejects.total))
        bus.subscribe(EpochEnded, self._epoch_ended)
        bus.subscribe(AttemptEnded, self._attempt_ended)

    def _attempt_started(self, attempt: AttemptStarted) -> None:
        self._attempt = attempt

    def _stage_started(self, stage: StageStarted) -> None:
        """Makes the gauges before the first stage that has workers: on Ray, this starts it."""
        if stage.workers is None or self._attempt is None or self._gauges:
            return
        metrics, snapshot = self._attempt.executor.metrics, self._attempt.run.snapshot
        self._gauges = {name: metrics.gauge(name, text, LABELS) for name, text in GAUGES.items()}
        self._set(thaw_listed_examples=snapshot.examples, thaw_rejects=sum(snapshot.rejects.values()))
        self._set(thaw_loss_not_finite=0)
        self._thread.start()

    def _progressed(self, event: Event) -> None:
        if not isinstance(event, STANDING_STILL):
            self._set(thaw_last_progress_time_seconds=self._clock())

    def _features_counted(self, features: FeaturesCounted) -> None:
        if features.what == "features":
            self._set(thaw_features_stored=features.stored, thaw_features_computed=features.computed)

    def _epoch_ended(self, event: EpochEnded) -> None:
        record = event.record
        self._set(thaw_validation_loss=record.validation_loss, thaw_validation_accuracy=record.validation_accuracy)

    def _attempt_ended(self, event: AttemptEnded) -> None:
        try:
            if self._gauges and self._attempt and isinstance(event.error, NotFinite):
                self._set(thaw_loss_not_finite=1)
                self._sleep(self._attempt.executor.scraped)
        finally:
            self._over.set()
            if self._thread.is_alive():
                self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(REPEATED):
            self._set()

    def _set(self, **values: float) -> None:
        """Sets these gauges, and again those that were set before."""
        if not self._gauges or self._attempt is None:
            return
        with self._lock:
            self._values |= values
            for name, value in self._values.items():
                self._gauges[name].set(value, {"run_id": self._attempt.run.id})
