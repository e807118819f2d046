from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from job.model.depthwise import call_with_fast_gradients, kernel_gradient
from job.model.flatten import flatten


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (4, 1), (5, 1), (5, 2), (6, 2), (7, 1), (9, 3)])
def test_the_kernels_gradient_is_tensorflows(size: int, stride: int, padding: str) -> None:
    random = np.random.default_rng(0)
    inputs = tf.constant(random.standard_normal((2, 13, 12, 6)), tf.float32)
    kernel = tf.constant(random.standard_normal((size, size, 6, 2)), tf.float32)
    strides = [1, stride, stride, 1]
    outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, padding)
    gradient = tf.constant(random.standard_normal(outputs.shape), tf.float32)
    wanted = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=inputs, filter_sizes=kernel.shape, out_backprop=gradient, strides=strides, padding=padding
    )
    got = kernel_gradient(inputs, gradient, size, stride=stride, padding=padding)
    assert got.shape == kernel.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_networks_outputs_are_the_same_and_its_gradients_up_to_rounding() -> None:
    inputs = x = keras.Input([16, 16, 4])
    for size, stride in ((5, 2), (3, 1), (7, 1)):
        x = keras.layers.DepthwiseConv2D(size, stride, padding="same", activation="relu6")(x)
        x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, x)
    images = tf.random.stateless_normal([3, 16, 16, 4], [0, 1])

    def run(call: object) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            outputs = flatten(model, images, call) if call else flatten(model, images)
        return outputs, tape.gradient(outputs, [variable.value for variable in model.trainable_variables])

    plain, fast = run(None), run(call_with_fast_gradients)
    assert plain[0].numpy().tobytes() == fast[0].numpy().tobytes()
    for wanted, got in zip(plain[1], fast[1], strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
