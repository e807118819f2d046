"""Stands in for GPUs, to try many workers on machines without any: `THAW_FAKE_GPU=1`.

Workers claim the GPUs that a Ray cluster says it has, and the network is a sleep of `THAW_FAKE_GPU_RATE` examples a
second (2000). All else is real: reading, order, batches, the sum of the gradients (zeros of their shapes), checkpoints,
events. What such a run trains is worth nothing: its run and its features have ids of their own, and its model is never
promoted. Jobs without `scaling.gpu` take no notice.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import numpy as np

from job.config import Job
from job.errors import ClusterError, JobError

FAKE, RATE = "THAW_FAKE_GPU", "THAW_FAKE_GPU_RATE"
MEANING = "fake_gpu"
USUAL = 2000.0
"""Examples a second of the network, where the environment says nothing else."""


def fake_rate(job: Job) -> float | None:
    """Examples a second of the network that sleeps, on each worker; None where the job has no GPUs, or real ones.
    Raises JobError.
    """
    if not job.scaling.gpu or (wanted := os.environ.get(FAKE, "")) in ("", "0"):
        return None
    if wanted != "1":
        raise JobError(f"{FAKE}={wanted}: 1 or 0 is needed.")
    stated = os.environ.get(RATE) or USUAL
    try:
        rate = float(stated)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise JobError(f"{RATE}={stated}: a number of examples a second above 0 is needed.")
    return rate


def fake_environment(job: Job) -> dict[str, str]:
    """The variables that make a process fake its GPU, as they are here: empty where it is not to."""
    return {name: os.environ[name] for name in (FAKE, RATE) if name in os.environ} if fake_rate(job) else {}


def fake_meaning(job: Job) -> dict[str, object]:
    """Tells ids of fake runs and features from those of real ones: empty where there is no fake GPU."""
    return {} if fake_rate(job) is None else {MEANING: True}


def check_fake(job: Job, meaning: Mapping[str, object]) -> None:
    """Raises ClusterError where this process would fake a GPU for real features, or the other way round. `meaning` is
    that of a featurizer, which the driver has planned.
    """
    fakes = fake_rate(job) is not None
    if job.scaling.gpu and (MEANING in meaning) != fakes:
        here, there = ("1", "0") if fakes else ("0", "1")
        raise ClusterError(
            f"{FAKE} is {here} on {socket.gethostname()} and {there} where the run was started: unset it in both."
        )


def fake_work(examples: int, rate: float) -> None:
    """Takes as long as a network of this rate takes for so many examples."""
    time.sleep(examples / rate)


def fake_features(inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values of [n, *shape] from some of the inputs [n, …], float32: pixels 0…255 become 0…1."""
    flat = inputs.reshape(len(inputs), -1)
    size = int(np.prod(shape))
    values = np.take(flat, np.arange(size) * max(1, flat.shape[1] // max(1, size)), axis=1, mode="wrap")
    return (values.astype(np.float32) / 255.0).reshape(len(inputs), *shape)
