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
from job.model.anatomy import Anatomy
from job.run.cluster import is_local, worker_cpus
from job.run.featurize import BATCH
from job.run.forecast.costs import local_batch
from job.run.forecast.rehearsal import PhaseSpeeds, Rehearsal, rehearse, seconds
from job.run.plan import Plan

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
    """Of a worker's process: TensorFlow's import and the network."""
    head: PhaseSpeeds
    fine_tune: PhaseSpeeds | None
    exchanged: bool
    """Whether the steps have the exchange of gradients in them."""
    took: float
    notes: tuple[str, ...]


def calibrate(
    job: Job, base: keras.Model, plan: Plan, anatomy: Anatomy, classes: int, encoded: list[bytes], folder: str
) -> Speeds:
    """Measures with `encoded`, which can be decoded. `folder` is that of the overlay over the job's store. Raises
    ClusterError where a process that measures fails or is killed.
    """
    began = time.monotonic()
    inputs, decode = _decoded(job, encoded)
    many, local = processes(job), local_batch(job)
    one = _pass(job, base, plan, inputs, began + BUDGET / 4)
    notes, batch, repeats = [], None, REPEATS
    if job.phases.fine_tune is not None:
        each = one * many * (anatomy.work - anatomy.below + anatomy.backward) / max(1, anatomy.work)
        some = max(1, int(local * min(1.0, LONGEST / (local * each))))
        if some < local:
            notes.append(f"a fine-tuning step was measured on {some} examples, and a worker's has {local}")
        stored = inputs if plan.cut is None else np.ones((1, *plan.shape), np.float32)
        batch = np.resize(stored, (some, *stored.shape[1:]))
        repeats = int(np.clip(BUDGET / 2 / (some * each), 2, REPEATS))
    pooled = np.random.default_rng(0).standard_normal((local, plan.features), np.float32)
    played = rehearse(Rehearsal(job, plan, classes, pooled, batch, repeats), many, folder)
    if (load := os.getloadavg()[0]) > (cores := os.cpu_count() or 1) + 1:
        notes.append(f"this machine is busy (load {load:.1f} on {cores} cores): an idle one is faster")
    took = time.monotonic() - began
    exchanged = many == job.scaling.max_workers
    return Speeds(decode, one, played.start, played.head, played.fine_tune, exchanged, took, tuple(notes))


def processes(job: Job) -> int:
    """Workers that are at work on this machine at the same time."""
    return max(1, min(job.scaling.max_workers, (os.cpu_count() or 1) // worker_cpus(job))) if is_local() else 1


def _decoded(job: Job, encoded: list[bytes]) -> tuple[np.ndarray, float]:
    """What the network takes, and seconds an example on all cores; those that can't be decoded after all are left
    out.
    """
    import tensorflow as tf

    form = form_of(job)
    decode = tf.function(form.decode, input_signature=[tf.TensorSpec([], tf.string)])
    found = []

    def one(content: bytes) -> None:
        try:
            found.append(decode(content).numpy())
        except tf.errors.OpError:
            return

    one(encoded[0])
    found.clear()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        taken = seconds(lambda: list(pool.map(one, encoded)), 1) / len(encoded)
    return np.stack(found) if found else np.zeros((1, *form.shape), form.dtype), taken


def _pass(job: Job, base: keras.Model, plan: Plan, inputs: np.ndarray, deadline: float) -> float:
    """Seconds an example through the frozen network, on the cores of all workers."""
    import keras
    import tensorflow as tf

    from job.model.cut import cut_named

    taps = [base.output, *([cut_named(base, plan.cut).tensor] if plan.cut else [])]
    model, many = keras.Model(base.input, taps), processes(job)
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
