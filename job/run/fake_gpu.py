"""Stands in for GPUs, to try many workers on machines without any: `THAW_FAKE_GPU=1`.

Workers claim the GPUs that a Ray cluster says it has, and the network is a sleep of `THAW_FAKE_GPU_RATE` examples a
second (2000). All else is real: reading, order, batches, the sum of the gradients (zeros of their shapes), checkpoints,
events. What such a run trains is worth nothing: its run and its features have ids of their own, and its model is never
promoted.
"""

from __future__ import annotations

import os
import time

import numpy as np

from job.errors import JobError

FAKE, RATE = "THAW_FAKE_GPU", "THAW_FAKE_GPU_RATE"
USUAL = 2000.0
"""Examples a second of the network, where the environment says nothing else."""


def fake_rate() -> float | None:
    """Examples a second of the network that sleeps, on each worker; None where GPUs are real. Raises JobError."""
    if os.environ.get(FAKE, "0") in ("", "0"):
        return None
    stated = os.environ.get(RATE) or USUAL
    try:
        rate = float(stated)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise JobError(f"{RATE}={stated}: a number of examples a second above 0 is needed.")
    return rate


def fake_environment() -> dict[str, str]:
    """The variables that make a process fake its GPU, as they are here: empty where it is not to."""
    return {name: os.environ[name] for name in (FAKE, RATE) if name in os.environ} if fake_rate() else {}


def fake_meaning() -> dict[str, object]:
    """Tells ids of fake runs and features from those of real ones: empty where GPUs are real."""
    return {} if fake_rate() is None else {"fake_gpu": True}


def fake_work(examples: int, rate: float) -> None:
    """Takes as long as a network of this rate takes for so many examples."""
    time.sleep(examples / rate)


def fake_features(inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values of [n, *shape] from inputs [n, …], float32 in [0, 1]: those of different examples differ."""
    flat = inputs.reshape(len(inputs), -1)
    size = int(np.prod(shape))
    values = np.take(flat, np.arange(size) * max(1, flat.shape[1] // max(1, size)), axis=1, mode="wrap")
    return (values.astype(np.float32) / 255.0).reshape(len(inputs), *shape)
