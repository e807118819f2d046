"""The cost of a network: multiply-adds, and the values that are kept for the gradients."""

from __future__ import annotations

import math
from typing import Any

import keras


def nodes(model: keras.Model) -> list[Any]:
    """The calls of layers and operations in topological order. (A call that uses a tensor is less deep than its
    maker.)
    """
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def trains(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and bool(operation.trainable_variables)


def forward_work(node: Any) -> int:
    """Multiply-adds per example: each kernel at each place of the output; without a kernel, one for each value."""
    if node.is_input:
        return 0
    layer = node.operation
    weights = layer.weights if isinstance(layer, keras.layers.Layer) else []
    kernels = [math.prod(weight.shape) for weight in weights if weight.name.endswith("kernel")]
    if not kernels:
        return values(node)
    return math.prod(node.outputs[0].shape[1:-1]) * sum(kernels)


def values(node: Any) -> int:
    """The number of values that the node computes for one example."""
    return sum(math.prod(tensor.shape[1:]) for tensor in node.outputs)


def trained_part(model: keras.Model) -> list[Any]:
    """The nodes from the lowest one that trains up to the output; none where nothing trains."""
    calls = nodes(model)
    first = next((at for at, node in enumerate(calls) if trains(node.operation)), len(calls))
    return calls[first:]


def backward_work(model: keras.Model) -> int:
    """Multiply-adds per example of the gradients: the forward work of each layer that trains, for its weights, and the
    forward work of each layer above the lowest one that trains, for the gradient that flows down.
    """
    part = trained_part(model)
    return sum(forward_work(node) * (trains(node.operation) + (at > 0)) for at, node in enumerate(part))


def kept_values(model: keras.Model) -> int:
    """The number of values per example that a step keeps for the gradients."""
    return sum(values(node) for node in trained_part(model))
