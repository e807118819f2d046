"""What is measured of a worker's steps. That Prometheus reads it is tested in executors/, and of Ray in the image."""

from __future__ import annotations

import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from job.run.events import StepsMade
from job.training.optimization import PhaseOptimizer
from job.training.phase_task import Call
from job.training.step import StepInputs, make_train_steps
from job.training.throughput import COUNTERS, GAUGES, Meter
from support.events import Heard
from support.measuring import FakeMetrics

SLEEP = 0.02
EPOCH = StepsMade("head", 3, 60, 7, 58, 224, 0.5, 14.0)


def test_steps_are_counted_with_their_waits() -> None:
    told = Heard()
    metrics = FakeMetrics()
    meter = Meter("cells-1", 2, emit=told, metrics=metrics)
    meter.steps(EPOCH, Call(4, 64, 1.5, np.array([0.25, 0.0]), loss=0.4))
    meter.checkpoint("head", 2.5)
    values = metrics.values
    assert values.keys() <= {*COUNTERS, *GAUGES, "thaw_checkpoint_seconds"}
    assert [values[name] for name in list(COUNTERS)[:4]] == [4, 64, 1.5, 0.25]
    assert "thaw_all_reduce_wait_seconds" not in values  # one worker alone waits for nobody
    assert (values["thaw_loss"], values["thaw_checkpoint_seconds"]) == (0.4, 2.5)
    assert all(one.tags == {"run_id": "cells-1", "rank": "2", "phase": "head"} for one in metrics.found)
    verbs = {**dict.fromkeys(COUNTERS, "inc"), **dict.fromkeys(GAUGES, "set"), "thaw_checkpoint_seconds": "observe"}
    assert all(one.verb == verbs[one.name] for one in metrics.found)
    assert told == [EPOCH]


def test_the_driver_is_told_once_a_second_and_not_of_an_epochs_last_step() -> None:
    now, told = 100.0, list[int]()
    meter = Meter("cells-1", 0, emit=lambda event: told.append(event.step), metrics=FakeMetrics(), clock=lambda: now)
    for step in range(1, 11):
        now += 0.25
        of = StepsMade("head", 1, 60, step, 10, 32 * step, 0.5, 0.25 * step)
        meter.steps(of, Call(1, 32, 0.25, np.zeros(2), loss=0.5))
    assert told == [1, 6]


def waits(pause: float, count: int) -> np.ndarray:
    """Of so many steps, whose batches take so long to come."""
    weight = keras.Variable(np.zeros([4, 2], np.float32), name="weight")
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([weight])

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        while True:
            time.sleep(pause)
            weights, places = np.full(8, 1 / 8, np.float32), np.arange(8, dtype=np.int32)
            yield np.ones([8, 4], np.float32), np.zeros(8, np.int32), weights, places, np.zeros(2, np.int64)

    shapes = (([8, 4], tf.float32), ([8], tf.int32), ([8], tf.float32), ([8], tf.int32), ([2], tf.int64))
    data = tf.data.Dataset.from_generator(batches, output_signature=tuple(tf.TensorSpec(*one) for one in shapes))

    def forward(inputs: tf.Tensor, dropout: object) -> tf.Tensor:
        return tf.matmul(inputs, weight.value)

    spec, strategy = tf.data.IteratorSpec(data.element_spec), tf.distribute.get_strategy()
    steps = make_train_steps(
        strategy,
        spec,
        forward=forward,
        optimizer=PhaseOptimizer(optimizer, {"weight": weight}),
        jit_compile=False,
        smoothing=0.0,
    )
    inputs = StepInputs(tf.fill([count], 0.1), tf.zeros([count, 2], tf.int32), tf.zeros([1]))
    begun = time.monotonic()
    found = steps(iter(data), inputs).waits.numpy()
    assert (found >= 0).all()
    assert found.sum() <= time.monotonic() - begun
    return found


def test_waiting_for_batches_is_measured() -> None:
    """No less than the batches took to come, however slow the machine is."""
    assert waits(SLEEP, 20)[0] > 0.9 * 20 * SLEEP


def test_deterministic_steps_look_at_no_clock() -> None:
    tf.config.experimental.enable_op_determinism()
    assert waits(SLEEP, 3).tolist() == [0, 0]
