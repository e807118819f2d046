"""How fast a training worker is: for Prometheus, and for those who wait for the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from job.run.events import Emit, StepsMade
from job.run.instruments import WorkerMetrics
from job.training.phase_task import Call

EVENT_SECONDS = 1.0
"""Between two events about how far an epoch is."""
CHECKPOINT_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0]
COUNTERS = {
    "thaw_steps": "Steps of training.",
    "thaw_examples": "Examples that this worker trained on; padding counts.",
    "thaw_training_seconds": "Of those steps.",
    "thaw_input_wait_seconds": "Of those, waiting for batches; not with train.deterministic.",
    "thaw_all_reduce_wait_seconds": "Of those, waiting for the sum over all workers; not with train.deterministic.",
}
GAUGES = {
    "thaw_loss": "Of the last step, over all workers.",
    "thaw_gpu_memory_bytes": "What tensors take now.",
    "thaw_gpu_memory_peak_bytes": "The most that they have taken.",
}
LABELS = ("run_id", "phase", "rank")


class Meter:
    """One for each worker of a run; `emit` sends an event to the driver."""

    def __init__(
        self,
        run: str,
        rank: int,
        *,
        emit: Emit,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import tensorflow as tf

        self._where, self._emit = {"run_id": run, "rank": str(rank)}, emit
        self._clock, self._last_event = clock, 0.0
        self._counters = {name: metrics.counter(name, text, LABELS) for name, text in COUNTERS.items()}
        self._gauges = {name: metrics.gauge(name, text, LABELS) for name, text in GAUGES.items()}
        text = "From when a checkpoint is taken to when it is in the store's list."
        self._checkpoints = metrics.histogram("thaw_checkpoint_seconds", text, LABELS, bounds=CHECKPOINT_SECONDS)
        self._has_gpu = bool(tf.config.list_physical_devices("GPU"))

    def steps(self, epoch: StepsMade, call: Call) -> None:
        """After a call of the network, with which the epoch has come so far."""
        where = {**self._where, "phase": epoch.phase}
        counted = (call.steps, call.examples, call.seconds, *call.waits.tolist())
        for name, value in zip(COUNTERS, counted, strict=True):
            if value > 0:
                self._counters[name].inc(value, where)
        gauges: dict[str, float] = {"thaw_loss": call.loss}
        if self._has_gpu:
            gauges |= _gpu_memory()
        for name, value in gauges.items():
            self._gauges[name].set(value, where)
        if self._clock() - self._last_event > EVENT_SECONDS and epoch.step < epoch.steps:
            self._last_event = self._clock()
            self._emit(epoch)

    def checkpoint(self, phase: str, seconds: float) -> None:
        self._checkpoints.observe(seconds, {**self._where, "phase": phase})


def _gpu_memory() -> dict[str, float]:
    import tensorflow as tf

    memory: dict[str, Any] = tf.config.experimental.get_memory_info("GPU:0")
    return {"thaw_gpu_memory_bytes": memory["current"], "thaw_gpu_memory_peak_bytes": memory["peak"]}
