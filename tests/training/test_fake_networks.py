"""The function that sleeps in place of a network."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.training import factory
from job.training.factory import sleeping_forward


def test_it_sleeps_once_a_batch_is_there_and_its_gradients_are_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(factory, "fake_work", lambda examples, rate: told.append(("slept", examples / rate)))
    variables = {"a": keras.Variable(np.ones((3, 2), np.float32)), "b": keras.Variable(np.ones(2, np.float32))}
    forward = sleeping_forward(100.0, variables, 5)

    def read() -> np.ndarray:
        told.append(("read", 0.0))
        return np.ones((8, 4), np.float16)

    @tf.function(autograph=False)
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        inputs = tf.ensure_shape(tf.numpy_function(read, [], tf.float16), [8, 4])
        with tf.GradientTape() as tape:
            logits = forward(inputs, None)
            loss = tf.reduce_mean(logits)
        return logits, tape.gradient(loss, [variable.value for variable in variables.values()])

    logits, gradients = step()
    assert told == [("read", 0.0), ("slept", 0.08)]
    np.testing.assert_array_equal(logits, np.zeros((8, 5), np.float32))
    assert [gradient.shape for gradient in gradients] == [(3, 2), (2,)]
    assert not any(np.any(gradient) for gradient in gradients)
