"""What this machine needs for the steps of a run, measured on real examples with the run's own parts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.model.anatomy import Anatomy
from job.run.cluster import is_local, worker_cpus
from job.run.featurize import BATCH
from job.run.forecast.costs import local_batch
from job.run.plan import Plan

if TYPE_CHECKING:
    from job.model.network import Network

BUDGET = 20.0
"""Seconds of calibration, from the first measurement on; what has begun is ended."""
LONGEST = 3.0
"""Seconds that a step may take by its multiply-adds; a longer one is measured on fewer examples."""
REPEATS = 10
EXAMPLES = 32
"""Real examples that are measured with."""
EFFICIENCY = 0.8
"""Of each thread of one process but the first."""
HEAD_STEPS = 16
"""Of the head that are made in one call, as in training."""


@dataclass(frozen=True)
class PhaseSpeeds:
    step: float
    predict: float
    """A batch of one worker."""
    compile: float
    """The first step and the first prediction, beyond what others take."""

    def scaled(self, factor: float, compiling: float) -> PhaseSpeeds:
        return PhaseSpeeds(self.step * factor, self.predict * factor, self.compile * compiling)


@dataclass(frozen=True)
class Speeds:
    """Seconds, with as many processes at work as this machine has in the run."""

    decode: float
    """An example."""
    network: float
    """An example through the frozen network, in one view."""
    head: PhaseSpeeds
    fine_tune: PhaseSpeeds | None
    crowding: float
    """How much longer a worker takes where all of this machine's workers are at work."""
    took: float
    notes: tuple[str, ...]


def calibrate(job: Job, network: Network, plan: Plan, anatomy: Anatomy, encoded: list[bytes]) -> Speeds:
    """Measures with `encoded`, which can be decoded. `network` has its head, and the layers thawed that fine-tuning
    trains; its weights are spoilt.
    """
    from job.model.freezing import freeze, thaw
    from job.train.phases import fine_tune_forward, head_forward, trainable

    started = time.monotonic()
    deadline = started + BUDGET
    inputs, decode = _decoded(job, encoded)
    alone, together, crowding = _passes(job, network, plan, inputs, started + BUDGET / 4)
    notes = []
    local = local_batch(job)
    freeze(network.model)
    for layer in network.head.layers:
        layer.trainable = True
    pooled = np.random.default_rng(0).standard_normal((local, plan.features), np.float32)
    head = _steps(job, "head", head_forward(job, network.head), trainable(network.head), pooled, False, HEAD_STEPS)
    head_speeds = _timed(*head, HEAD_STEPS, started + BUDGET / 2, _threads(job)).scaled(crowding, crowding)
    fine_tune = None
    if job.phases.fine_tune is not None:
        thaw(network.base, job.phases.fine_tune.unfreeze)
        expected = local * alone * (anatomy.work - anatomy.below + anatomy.backward) / max(1, anatomy.work)
        some = max(1, int(local * min(1.0, LONGEST / expected)))
        if some < local:
            notes.append(f"a fine-tuning step was measured on {some} examples, and a worker's has {local}")
        stored = inputs if plan.cut is None else np.ones((1, *plan.shape), np.float32)
        batch = np.resize(stored, (some, *stored.shape[1:]))
        forward, jit_compile = fine_tune_forward(job, network, plan.cut)
        made = _steps(job, "fine_tune", forward, trainable(network.model), batch, jit_compile, 1)
        fine_tune = _timed(*made, 1, deadline, _threads(job)).scaled(local / some * crowding, crowding)
    took = time.monotonic() - started
    if (load := os.getloadavg()[0]) > (cores := os.cpu_count() or 1) + 1:
        notes.append(f"this machine is busy (load {load:.1f} on {cores} cores): the times are those of an idle one")
    return Speeds(decode, together, head_speeds, fine_tune, crowding, took, tuple(notes))


def processes(job: Job) -> int:
    """Workers that are at work on this machine at the same time."""
    return max(1, min(job.scaling.max_workers, (os.cpu_count() or 1) // worker_cpus(job))) if is_local() else 1


def _threads(job: Job) -> int | None:
    """Of a worker's processor; None where it has a GPU."""
    return None if job.scaling.gpu else worker_cpus(job)


def _decoded(job: Job, encoded: list[bytes]) -> tuple[np.ndarray, float]:
    """What the network takes, and seconds an example; those that can't be decoded after all are left out."""
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
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        seconds = _seconds(lambda: list(pool.map(one, encoded)), 1, 0, cores) / len(encoded)
    return np.stack(found) if found else np.zeros((1, *form.shape), form.dtype), seconds


def _passes(job: Job, network: Network, plan: Plan, inputs: np.ndarray, deadline: float) -> tuple[float, float, float]:
    """Seconds an example through the frozen network: on the cores of one worker, and on those of all workers; and how
    much longer each of them takes where all are at work.
    """
    import keras
    import tensorflow as tf

    from job.model.cut import cut_named

    base = network.base
    taps = [base.output, *([cut_named(base, plan.cut).tensor] if plan.cut else [])]
    model, size = keras.Model(base.input, taps), BATCH
    run = tf.function(lambda batch: model(tf.cast(batch, base.input.dtype), training=False), reduce_retracing=True)
    first = tf.constant(inputs[:1])
    run(first)
    threads = _threads(job)
    one = _seconds(lambda: run(first), 1, deadline, threads)
    size = int(np.clip(LONGEST / 2 / max(one, 1e-9), 1, BATCH))
    batch = tf.constant(np.resize(inputs, (size, *inputs.shape[1:])))
    run(batch)
    alone = _seconds(lambda: run(batch), REPEATS, deadline, threads) / size
    many = processes(job)
    if many == 1:
        return alone, alone, 1.0
    with ThreadPoolExecutor(many) as pool:
        each = [batch] * many
        cores = None if threads is None else threads * many
        together = _seconds(lambda: list(pool.map(run, each)), REPEATS, deadline, cores) / size
    return alone, together / many, max(1.0, together / alone)


def _steps(
    job: Job, name: str, forward: Any, variables: dict[str, Any], inputs: np.ndarray, jit_compile: bool, count: int
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What makes `count` training steps on these inputs, and what predicts them once."""
    import tensorflow as tf

    from job.train.control import WISHES
    from job.train.optimization import make_optimizer
    from job.train.step import make_predict_steps, make_train_steps

    settings, size = getattr(job.phases, name), len(inputs)
    batch = inputs, np.zeros(size, np.int32), np.full(size, 1 / size, np.float32), np.arange(size, dtype=np.int32)
    data = tf.data.Dataset.from_tensors((*batch, np.zeros(2, np.int64))).repeat()
    spec, strategy = tf.data.IteratorSpec(data.element_spec), tf.distribute.get_strategy()
    some = list(variables.values())
    optimizer = make_optimizer(settings, name, some)
    how = some, optimizer, jit_compile, [1.0] * len(some), settings.label_smoothing
    train = make_train_steps(strategy, spec, forward, *how)
    predict = make_predict_steps(strategy, spec, forward, 0)
    rates, seeds, wishes = tf.zeros([count]), tf.zeros([count, 2], tf.int32), tf.zeros([WISHES])
    return lambda: train(iter(data), rates, seeds, wishes), lambda: predict(iter(data), tf.constant(1))


def _timed(
    train: Callable[[], Any], predict: Callable[[], Any], count: int, deadline: float, threads: int | None
) -> PhaseSpeeds:
    """`train` makes `count` steps."""
    first = [_seconds(call, 1, deadline, threads) for call in (train, predict)]
    step, predicted = (_seconds(call, REPEATS, deadline, threads) for call in (train, predict))
    return PhaseSpeeds(step / count, predicted, max(0.0, sum(first) - step - predicted))


def _seconds(call: Callable[[], Any], most: int, deadline: float, threads: int | None) -> float:
    """The fastest of up to `most` calls, and at least one, in seconds.

    By the clock, or by the processor's time where that is less than the clock's for so many threads (None: what
    computes is no processor): other processes, which the run may not have beside it, take the rest.
    """
    taken: list[float] = []
    while not taken or (len(taken) < most and time.monotonic() < deadline):
        clock, processor = time.monotonic(), time.process_time()
        call()
        clock, processor = time.monotonic() - clock, time.process_time() - processor
        shared = clock if threads is None else processor / (1 + (threads - 1) * EFFICIENCY)
        taken.append(min(clock, shared))
    return min(taken)
