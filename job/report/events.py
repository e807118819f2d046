"""TensorBoard's event files of a run, in its folder in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from job.data.tfrecord import framed
from job.report.meanwhile import Meanwhile
from job.storage import Store

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


def events_folder(run: str) -> str:
    return f"runs/{run}/tensorboard/"


@contextmanager
def recorded(say: Say, store: Store, run: str, attempt: int) -> Iterator[Say]:
    """`say`, which also draws the epochs that it is told of: `loss/step`, what CURVES names, and histograms of what is
    thawed.

    Both phases are on one axis, that of all steps made. Each group of workers has a file of its own,
    `events.out.tfevents.<attempt>.<group>`, which takes the place of what others drew from its first step on.
    """
    meanwhile = Meanwhile(store, "The run's event files for TensorBoard", lambda text: say("warning", text=text))
    files = _Files(meanwhile, events_folder(run), attempt)

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
        meanwhile.close()


class _Files:
    """Event files as they grow."""

    def __init__(self, meanwhile: Meanwhile, prefix: str, attempt: int) -> None:
        self._meanwhile, self._prefix, self._attempt = meanwhile, prefix, attempt
        self._group, self._file = 0, b""

    def begin(self) -> None:
        """Another group of workers is about to begin."""
        self._group, self._file = self._group + 1, b""

    def draw(self, steps: int, losses: np.ndarray, **epoch: Any) -> None:
        """An epoch whose last step is the run's `steps`-th; `losses` of its steps, float32 [n]."""
        first = steps - len(losses) + 1
        records = [] if self._file else _beginning(first)
        stride = -(-len(losses) // POINTS)
        records += [_scalars(first + place, {"loss/step": losses[place]}) for place in range(0, len(losses), stride)]
        records.append(_scalars(steps, {curve: epoch[name] for name, curve in CURVES.items()}))
        self._add(b"".join(records))

    def draw_weights(self, steps: int, histograms: dict[str, dict[str, Any]]) -> None:
        """After an epoch whose last step is the run's `steps`-th: job.train.measure.histogram of each variable."""
        self._add(_histograms(steps, histograms))

    def _add(self, records: bytes) -> None:
        self._file += records
        self._meanwhile.put(f"{self._prefix}events.out.tfevents.{self._attempt:06d}.{self._group:06d}", self._file)


def _beginning(step: int) -> list[bytes]:
    """Of a file: what others have drawn from this step on counts no more."""
    from tensorboardX.proto.event_pb2 import SessionLog

    return [_record(0, file_version="brain.Event:2"), _record(step, session_log=SessionLog(status=SessionLog.START))]


def _scalars(step: int, values: dict[str, float]) -> bytes:
    from tensorboardX.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return _record(step, summary=summary)


def _histograms(step: int, histograms: dict[str, dict[str, Any]]) -> bytes:
    from tensorboardX.proto.summary_pb2 import HistogramProto, Summary

    values = []
    for path, found in histograms.items():
        limits, counts = found["limits"].tolist(), found["counts"].tolist()
        proto = HistogramProto(min=limits[0], max=limits[-1], num=found["count"], sum=found["sum"])
        proto.sum_squares = found["squares"]
        proto.bucket_limit.extend(limits)  # each bucket ends at its limit: the first one is empty
        proto.bucket.extend([0.0, *counts])
        values.append(Summary.Value(tag=f"weights/{path}", histo=proto))
    return _record(step, summary=Summary(value=values))


def _record(step: int, **event: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event

    return framed(Event(wall_time=time.time(), step=step, **event).SerializeToString())
