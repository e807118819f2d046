"""A faster gradient of depthwise kernels on CPUs.

TensorFlow's gradient of a depthwise kernel is vectorized for 3 by 3 only: that of 5 by 5 takes six times as long as the
convolution itself. But the gradient is a correlation of its own at each place of the kernel, so that of a larger kernel
is put together from those of kernels of 3 by 3 on shifted inputs.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from job.model.flatten import call_frozen

SMALL = 3


def call_with_fast_gradients(operation: Any, args: Any, kwargs: Any) -> Any:
    """Calls an operation in inference mode (see `flatten`). The values are the same, and the gradients up to
    rounding.
    """
    if not _is_slow(operation, args):
        return call_frozen(operation, args, kwargs)
    outputs = _convolution(operation)(args[0], tf.convert_to_tensor(operation.kernel))
    if operation.use_bias:
        outputs = outputs + operation.bias
    return operation.activation(outputs)


def kernel_gradient(inputs: tf.Tensor, gradient: tf.Tensor, size: int, *, stride: int, padding: str) -> tf.Tensor:
    """The gradient of a depthwise kernel, [size, size, c, m] for a size above 2.

    `inputs` [n, h, w, c] and the gradient of the outputs, [n, h', w', c * m], are float32 with static sizes.
    """
    needed = [(outputs - 1) * stride + size for outputs in gradient.shape[1:3]]
    if padding == "SAME":  # TensorFlow's: the odd row and column are put last
        missing = [max(n - have, 0) for n, have in zip(needed, inputs.shape[1:3], strict=True)]
        inputs = tf.pad(inputs, [[0, 0], *([m // 2, m - m // 2] for m in missing), [0, 0]])
    height, width = (n - size + SMALL for n in needed)
    starts = [*range(0, size - SMALL, SMALL), size - SMALL]

    def part(row: int, column: int) -> tf.Tensor:
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=inputs[:, row : row + height, column : column + width],
            filter_sizes=[SMALL, SMALL, inputs.shape[3], gradient.shape[3] // inputs.shape[3]],
            out_backprop=gradient,
            strides=[1, stride, stride, 1],
            padding="VALID",
        )

    return _joined([_joined([part(row, column) for column in starts], starts, 1) for row in starts], starts, 0)


def _is_slow(operation: Any, args: Any) -> bool:
    """Whether the operation is a depthwise convolution with a large kernel that `kernel_gradient` supports."""
    if type(operation) is not keras.layers.DepthwiseConv2D or operation.data_format != "channels_last":
        return False
    height, width = operation.kernel_size
    plain = operation.strides[0] == operation.strides[1] and operation.dilation_rate in (1, (1, 1))
    return height == width > SMALL and plain and operation.compute_dtype == "float32" and None not in args[0].shape[1:]


def _convolution(layer: keras.layers.DepthwiseConv2D) -> Any:
    size, stride, padding = layer.kernel_size[0], layer.strides[0], layer.padding.upper()
    strides = [1, stride, stride, 1]

    @tf.custom_gradient
    def convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=gradient, strides=strides, padding=padding
            )
            return of_inputs, kernel_gradient(inputs, gradient, size, stride=stride, padding=padding)

        return tf.nn.depthwise_conv2d(inputs, kernel, strides, padding), gradients

    return convolve


def _joined(parts: list[tf.Tensor], starts: list[int], axis: int) -> tf.Tensor:
    """Joins parts of length SMALL that begin at `starts`, without the overlap of each with the one before."""
    ends = [0, *(start + SMALL for start in starts[:-1])]
    kept = [
        tf.gather(part, range(end - start, SMALL), axis=axis) if end > start else part
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]
    return tf.concat(kept, axis)
