"""The gradient of depthwise kernels: TensorFlow's against ours, one thread, in turn; prints the ratios.

python benchmarks/depthwise.py [batch]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import tensorflow as tf

from job.model.depthwise import kernel_gradient

CASES = ((14, 672, 5, 2), (7, 1152, 5, 1), (7, 1152, 7, 1))
"""Side of the inputs, channels, side of the kernel, stride; the first two are EfficientNet-Lite0's."""
ROUNDS = 15


def main(batch: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    print("| inputs | kernel, stride | convolution, ms | TensorFlow's gradient, ms | ours, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for side, channels, size, stride in CASES:
        inputs = tf.random.normal((batch, side, side, channels))
        kernel = tf.random.normal((size, size, channels, 1))
        strides = [1, stride, stride, 1]
        gradient = tf.nn.depthwise_conv2d(inputs, kernel, strides, "SAME")
        convolve = tf.function(lambda x, g, k=kernel, s=strides: tf.nn.depthwise_conv2d(x, k, s, "SAME"))
        theirs = tf.function(
            lambda x, g, k=kernel, s=strides: tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=x, filter_sizes=k.shape, out_backprop=g, strides=s, padding="SAME"
            )
        )
        ours = tf.function(
            lambda x, g, size=size, stride=stride: kernel_gradient(x, g, size, stride=stride, padding="SAME")
        )
        times = _times([convolve, theirs, ours], inputs, gradient)
        cells = " | ".join(f"{1000 * seconds:.1f}" for seconds in times)
        shape = f"{batch}×{side}×{side}×{channels}"
        print(f"| {shape} | {size}×{size}, {stride} | {cells} | **{times[1] / times[2]:.1f}** |")


def _times(functions: list[Callable[..., tf.Tensor]], inputs: tf.Tensor, gradient: tf.Tensor) -> list[float]:
    """The median seconds of each, called in turn."""
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(ROUNDS + 2):
        for function, mine in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function(inputs, gradient).numpy()
            if turn >= 2:  # compiled, and warm
                mine.append(time.perf_counter() - start)
    return [statistics.median(mine) for mine in seconds]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 32)
