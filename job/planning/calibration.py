"""What this machine needs for the steps of a run, measured on real examples and with the run's own parts."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.data.pictures import Unreadable
from job.executors.placement import cpus_here, is_here, named_gpus, worker_cpus
from job.features.cache_plan import Plan
from job.features.featurize import BATCH
from job.libraries import import_tensorflow
from job.model.anatomy import Anatomy
from job.planning.costs import local_batch, memory_here
from job.planning.rehearsal import PhaseSpeeds, Rehearsal, rehearse, seconds

if TYPE_CHECKING:
    import keras

BUDGET = 20.0
"""Seconds of calibration that what is repeated is chosen for; starts and compilation come on top."""
LONGEST = 3.0
"""Seconds that a step may take by its multiply-adds; a longer one is measured on fewer examples."""
REPEATS = 10
EXAMPLES = 32
"""Real examples that are measured with."""


@dataclass(frozen=True)
class Speeds:
    """Seconds, with as many processes at work as this machine has in the run."""

    decode: float
    """An example."""
    network: float
    """An example through the frozen network, in one view."""
    start: float
    """Seconds until a worker's process is ready: TensorFlow's import and the network."""
    head: PhaseSpeeds
    fine_tune: PhaseSpeeds | None
    exchanged: bool
    """Whether the steps have the exchange of gradients in them."""
    took: float
    notes: tuple[str, ...]


def calibrate(
    job: Job,
    base: keras.Model,
    plan: Plan,
    anatomy: Anatomy,
    classes: int,
    encoded: list[bytes],
    devices: list[str | None],
    folder: str,
) -> Speeds:
    """Measures with `encoded`, which can be decoded, and on `devices`; `folder` is that of the overlay over the job's
    store. Raises ClusterError where a process that measures fails or is killed.
    """
    began = time.monotonic()
    inputs, decode = _decoded(job, encoded)
    many, local = len(devices), local_batch(job)
    sharing = 1 if job.scaling.gpu else many
    one = _pass(base, plan, inputs, sharing, began + BUDGET / 4)
    notes, batch, repeats = [], None, REPEATS
    if job.phases.fine_tune is not None:
        each = one * sharing * (anatomy.work - anatomy.below + anatomy.backward) / max(1, anatomy.work)
        some = max(1, int(local * min(1.0, LONGEST / (local * each))))
        if some < local:
            notes.append(f"a fine-tuning step was measured on {some} examples, and a worker's has {local}")
        stored = inputs if plan.cut is None else np.ones((1, *plan.shape), np.float32)
        batch = np.resize(stored, (some, *stored.shape[1:]))
        repeats = int(np.clip(BUDGET / 2 / (some * each), 2, REPEATS))
    pooled = np.random.default_rng(0).standard_normal((local, plan.features), np.float32)
    played = rehearse(Rehearsal(job, plan, classes, pooled, batch, repeats), devices, folder)
    if is_here() and not job.scaling.gpu and many < job.scaling.max_workers:
        notes.append(f"{job.scaling.max_workers} workers share this machine: measured with {many}, and scaled")
        played = played.shared(job.scaling.max_workers / many)
    if (load := os.getloadavg()[0]) > (cores := os.cpu_count() or 1) + 1:  # of the whole machine, both
        notes.append(f"this machine is busy (load {load:.1f} on {cores} cores): an idle one is faster")
    took = time.monotonic() - began
    exchanged = is_here() or job.scaling.max_workers == 1
    return Speeds(decode, one, played.start, played.head, played.fine_tune, exchanged, took, tuple(notes))


def devices_here(job: Job, memory: int) -> list[str | None]:
    """The devices of the workers that are measured at the same time, which take so many bytes each: the GPU, as
    CUDA_VISIBLE_DEVICES names it, or None. Where the run is not on this machine it is one of them.
    """
    if not job.scaling.gpu:
        room = min(cpus_here() // worker_cpus(job), memory_here() // memory)
        return [None] * (max(1, min(job.scaling.max_workers, room)) if is_here() else 1)
    import_tensorflow()
    import tensorflow as tf

    gpus: list[str | None] = [*(named_gpus() or ())]
    gpus = gpus or [str(index) for index in range(len(tf.config.list_physical_devices("GPU")))]
    return gpus[: job.scaling.max_workers if is_here() else 1]


def _decoded(job: Job, encoded: list[bytes]) -> tuple[np.ndarray, float]:
    """What the network takes, and seconds an example on all cores; those that can't be decoded after all are left
    out.
    """
    import_tensorflow()
    import tensorflow as tf

    form = form_of(job)
    decode = tf.function(form.decode, input_signature=[tf.TensorSpec([], tf.string)])
    found = []

    def one(content: bytes) -> None:
        try:
            found.append(decode(form.plain(content)).numpy())
        except (Unreadable, tf.errors.OpError):
            return

    one(encoded[0])
    found.clear()
    with ThreadPoolExecutor(cpus_here()) as pool:
        taken = seconds(lambda: list(pool.map(one, encoded)), 1) / len(encoded)
    return np.stack(found) if found else np.zeros((1, *form.shape), form.dtype), taken


def _pass(base: keras.Model, plan: Plan, inputs: np.ndarray, many: int, deadline: float) -> float:
    """Seconds an example through the frozen network, at `many` calls at the same time: on the cores of all workers."""
    import keras
    import tensorflow as tf

    from job.model.cut import cut_named

    taps = [base.output, *([cut_named(base, plan.cut).tensor] if plan.cut else [])]
    model = keras.Model(base.input, taps)
    run = tf.function(lambda batch: model(tf.cast(batch, base.input.dtype), training=False), reduce_retracing=True)
    first = tf.constant(inputs[:1])
    run(first)
    size = int(np.clip(LONGEST / 2 / max(seconds(lambda: run(first), 1), 1e-9), 1, BATCH))
    batch = tf.constant(np.resize(inputs, (size, *inputs.shape[1:])))
    run(batch)
    with ThreadPoolExecutor(many) as pool:
        each: list[tf.Tensor] = [batch] * many
        taken: list[float] = []
        while len(taken) < REPEATS and (not taken or time.monotonic() < deadline):
            taken.append(seconds(lambda: list(pool.map(run, each)), 1))
    return float(np.mean(taken)) / (size * many)
