"""What Prometheus reads of a run as a whole, through Ray's own exporter, which puts `ray_` before the names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from job.data.snapshot import Snapshot

GAUGES = {
    "thaw_listed_examples": "Examples of the snapshot, in all splits.",
    "thaw_rejects": "Objects that are no examples, as far as is known.",
    "thaw_features_stored": "Examples whose features were stored before this attempt.",
    "thaw_features_computed": "Examples whose features this attempt computes.",
    "thaw_validation_loss": "After the last epoch.",
    "thaw_validation_accuracy": "After the last epoch.",
}
LABELS = ("run_id",)


class RunMeter:
    """Of one attempt; made while Ray is there."""

    def __init__(self, run: str, snapshot: Snapshot) -> None:
        from ray.util.metrics import Gauge

        self._where = {"run_id": run}
        self._gauges = {name: Gauge(name, text, LABELS) for name, text in GAUGES.items()}
        self._set(thaw_listed_examples=snapshot.examples, thaw_rejects=sum(snapshot.rejects.values()))

    def heard_by(self, say: Callable[..., None]) -> Callable[..., None]:
        """`say`, which also sets the gauges that an event is about."""

        def both(kind: str, **event: Any) -> None:
            say(kind, **event)
            if kind == "epoch":
                loss, accuracy = event["validation_loss"], event["validation_accuracy"]
                self._set(thaw_validation_loss=loss, thaw_validation_accuracy=accuracy)
            elif kind == "rejects":
                self._set(thaw_rejects=event["total"])
            elif event.get("what") == "features":
                self._set(thaw_features_stored=event["stored"], thaw_features_computed=event["computed"])

        return both

    def _set(self, **values: float) -> None:
        for name, value in values.items():
            self._gauges[name].set(value, self._where)
