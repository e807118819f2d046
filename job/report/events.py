"""TensorBoard's event files of a run, in its folder in the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from job.storage import Store
from job.storage.scratch import scratch

INTERVAL = 15.0
"""Seconds between two writes to the store."""
LAST = 30.0
"""Seconds that the end of training waits for the last of them."""
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
    """`say`, which also draws the epochs that it is told of: `loss/step`, and what CURVES names.

    Both phases are on one axis, that of all steps made. Each group of workers has a file of its own,
    `events.out.tfevents.<attempt>.<group>`, which takes the place of what others drew from its first step on. Where the
    store refuses a file there is one warning, and training goes on.
    """
    with scratch() as folder:
        files = _Files(store, events_folder(run), attempt, Path(folder), say)

        def both(kind: str, **event: Any) -> None:
            say(kind, **event)
            if kind == "start":
                files.begin()
            elif kind == "epoch" and "loss" in event:
                files.draw(**event)

        try:
            yield both
        finally:
            files.close()


class _Files:
    """Event files of this machine, and a thread that copies them into the store as they grow."""

    def __init__(self, store: Store, prefix: str, attempt: int, folder: Path, say: Say) -> None:
        self._store, self._prefix, self._attempt, self._folder, self._say = store, prefix, attempt, folder, say
        self._groups = 0
        self._writer: Any = None
        self._drawn: set[Path] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._copy, name="event files", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Another group of workers is about to begin."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._groups = None, self._groups + 1

    def draw(self, steps: int, losses: np.ndarray, **epoch: Any) -> None:
        """An epoch whose last step is the run's `steps`-th; `losses` of its steps, float32 [n]."""
        from tensorboardX import SummaryWriter

        path = self._folder / f"{self._attempt:06d}.{self._groups:06d}"
        first = steps - len(losses) + 1
        if self._writer is None:
            self._writer = SummaryWriter(str(path), purge_step=first)
        stride = -(-len(losses) // POINTS)
        for place in range(0, len(losses), stride):
            self._writer.add_scalar("loss/step", losses[place], first + place)
        for name, curve in CURVES.items():
            self._writer.add_scalar(curve, epoch[name], steps)
        self._writer.flush()
        with self._lock:
            self._drawn.add(path)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._over.set()
        self._thread.join(LAST)

    def _copy(self) -> None:
        told = over = False
        while not over:
            over = self._over.wait(INTERVAL)
            with self._lock:
                drawn, self._drawn = self._drawn, set()
            for path in drawn:
                (file,) = path.iterdir()
                try:
                    self._store.write(f"{self._prefix}events.out.tfevents.{path.name}", file.read_bytes())
                except Exception as error:  # whatever it is, training goes on
                    if not told:
                        told = True
                        self._say("warning", text=f"The run's event files for TensorBoard can't be written: {error}")
