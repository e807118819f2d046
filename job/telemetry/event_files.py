"""TensorBoard's event files of a run while it trains, in its folder in the store."""

from __future__ import annotations

from job.report import tfevents
from job.run.events import AttemptEnded, AttemptStarted, Bus, EpochEnded, TrainingStarted, WeightsMeasured
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


class EventFiles:
    """Draws the epochs of a run: `loss/step`, what CURVES names, and histograms of what is thawed.

    Both phases are on one axis, that of all steps made. Each group of workers has a file of its own,
    `events.out.tfevents.<attempt>.<group>`, which takes the place of what others drew from its first step on.
    """

    def __init__(self, bus: Bus) -> None:
        self._emit = bus.emit
        self._writer: BackgroundWriter | None = None
        self._group, self._file, self._names = 0, b"", ""
        bus.subscribe(AttemptStarted, self._attempt_started)
        bus.subscribe(TrainingStarted, self._training_started)
        bus.subscribe(EpochEnded, self._epoch_ended)
        bus.subscribe(WeightsMeasured, self._weights_measured)
        bus.subscribe(AttemptEnded, self._attempt_ended)

    def _attempt_started(self, attempt: AttemptStarted) -> None:
        self._writer = BackgroundWriter(attempt.run.store, "The run's event files for TensorBoard", self._emit)
        self._names = f"{attempt.run.keys.tensorboard}events.out.tfevents.{attempt.number:06d}"

    def _training_started(self, event: TrainingStarted) -> None:
        """Another group of workers is about to begin."""
        self._group, self._file = self._group + 1, b""

    def _epoch_ended(self, epoch: EpochEnded) -> None:
        if epoch.losses is None or epoch.steps is None:
            return
        first = epoch.steps - len(epoch.losses) + 1
        records = [] if self._file else [tfevents.version(), tfevents.restart(first)]
        stride = -(-len(epoch.losses) // POINTS)
        records += [
            tfevents.scalars(first + place, {"loss/step": epoch.losses[place]})
            for place in range(0, len(epoch.losses), stride)
        ]
        figures = {curve: getattr(epoch.record, name) for name, curve in CURVES.items()}
        records.append(tfevents.scalars(epoch.steps, figures))
        self._add(b"".join(records))

    def _weights_measured(self, weights: WeightsMeasured) -> None:
        histograms = {f"weights/{path}": histogram for path, histogram in weights.histograms.items()}
        self._add(tfevents.histograms(weights.steps, histograms))

    def _attempt_ended(self, event: AttemptEnded) -> None:
        if self._writer:
            self._writer.close()

    def _add(self, records: bytes) -> None:
        self._file += records
        if self._writer:
            self._writer.put(f"{self._names}.{self._group:06d}", self._file)
