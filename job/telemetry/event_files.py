"""TensorBoard's event files of a run while it trains, in its folder in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from job.report import tfevents
from job.storage import Store
from job.storage.runs import RunKeys
from job.telemetry.background_writer import BackgroundWriter

POINTS = 1000
"""The most steps of an epoch that are drawn; of more, every second one, or third, …"""
CURVES = {
    "loss": "loss/epoch",
    "validation_loss": "loss/validation",
    "validation_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
    "seconds": "seconds",
}
"""What is drawn of an epoch, at its last step."""
Say = Callable[..., None]


@contextmanager
def recorded(say: Say, store: Store, run: str, attempt: int) -> Iterator[Say]:
    """`say`, which also draws the epochs that it is told of: `loss/step`, what CURVES names, and histograms of what is
    thawed.

    Both phases are on one axis, that of all steps made. Each group of workers has a file of its own,
    `events.out.tfevents.<attempt>.<group>`, which takes the place of what others drew from its first step on.
    """
    writer = BackgroundWriter(store, "The run's event files for TensorBoard", lambda text: say("warning", text=text))
    files = _Files(writer, RunKeys(run).tensorboard, attempt)

    def both(kind: str, **event: Any) -> None:
        say(kind, **event)
        if kind == "start":
            files.begin()
        elif kind == "epoch" and "loss" in event:
            files.draw(**event)
        elif kind == "weights":
            files.draw_weights(**event)

    try:
        yield both
    finally:
        writer.close()


class _Files:
    """Event files as they grow."""

    def __init__(self, writer: BackgroundWriter, prefix: str, attempt: int) -> None:
        self._writer, self._prefix, self._attempt = writer, prefix, attempt
        self._group, self._file = 0, b""

    def begin(self) -> None:
        """Another group of workers is about to begin."""
        self._group, self._file = self._group + 1, b""

    def draw(self, steps: int, losses: np.ndarray, **epoch: Any) -> None:
        """An epoch whose last step is the run's `steps`-th; `losses` of its steps, float32 [n]."""
        first = steps - len(losses) + 1
        records = [] if self._file else [tfevents.version(), tfevents.restart(first)]
        stride = -(-len(losses) // POINTS)
        records += [
            tfevents.scalars(first + place, {"loss/step": losses[place]}) for place in range(0, len(losses), stride)
        ]
        records.append(tfevents.scalars(steps, {curve: epoch[name] for name, curve in CURVES.items()}))
        self._add(b"".join(records))

    def draw_weights(self, steps: int, histograms: dict[str, dict[str, Any]]) -> None:
        """After an epoch whose last step is the run's `steps`-th: job.training.measure.histogram of each variable."""
        self._add(tfevents.histograms(steps, {f"weights/{path}": found for path, found in histograms.items()}))

    def _add(self, records: bytes) -> None:
        self._file += records
        self._writer.put(f"{self._prefix}events.out.tfevents.{self._attempt:06d}.{self._group:06d}", self._file)
