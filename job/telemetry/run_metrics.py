"""What Prometheus reads of a run as a whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from job.data.snapshot import Snapshot
from job.errors import NotFinite
from job.executors import Executor
from job.training.context import WorkerMetrics

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
STANDING_STILL = ("note", "warning")
"""Events that may come again and again while nothing else does."""
REPEATED = 5.0
"""Seconds after which the gauges are set again: what was not set for 10 seconds is exported no more."""
Say = Callable[..., None]


@contextmanager
def measured(
    run: str, snapshot: Snapshot, say: Say, executor: Executor, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Say]:
    """`say`, which also sets the gauges that an event is about, for as long as the `with` block lasts.

    A run on a cluster that ends by NotFinite waits until Prometheus has read so.
    """
    meter, over = RunMeter(run, snapshot, executor.metrics), threading.Event()

    def repeat() -> None:
        while not over.wait(REPEATED):
            meter.set()

    thread = threading.Thread(target=repeat, name="metrics", daemon=True)
    thread.start()
    try:
        yield meter.heard_by(say)
    except NotFinite:
        meter.set(thaw_loss_not_finite=1)
        sleep(executor.scraped)
        raise
    finally:
        over.set()
        thread.join()


class RunMeter:
    """The instruments of one attempt."""

    def __init__(
        self, run: str, snapshot: Snapshot, metrics: WorkerMetrics, clock: Callable[[], float] = time.time
    ) -> None:
        self._where, self._clock = {"run_id": run}, clock
        self._gauges = {name: metrics.gauge(name, text, LABELS) for name, text in GAUGES.items()}
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()
        self.set(thaw_listed_examples=snapshot.examples, thaw_rejects=sum(snapshot.rejects.values()))
        self.set(thaw_last_progress_time_seconds=self._clock(), thaw_loss_not_finite=0)

    def heard_by(self, say: Say) -> Say:
        """`say`, which also sets the gauges that an event is about."""

        def both(kind: str, **event: Any) -> None:
            say(kind, **event)
            if kind not in STANDING_STILL:
                self.set(thaw_last_progress_time_seconds=self._clock())
            if kind == "epoch":
                loss, accuracy = event["validation_loss"], event["validation_accuracy"]
                self.set(thaw_validation_loss=loss, thaw_validation_accuracy=accuracy)
            elif kind == "rejects":
                self.set(thaw_rejects=event["total"])
            elif event.get("what") == "features":
                self.set(thaw_features_stored=event["stored"], thaw_features_computed=event["computed"])

        return both

    def set(self, **values: float) -> None:
        """These gauges, and again those that were set before."""
        with self._lock:
            self._values |= values
            for name, value in self._values.items():
                self._gauges[name].set(value, self._where)
