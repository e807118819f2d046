"""What a network costs: multiply-adds, and the values that are kept for the gradients."""

from __future__ import annotations

import math
from typing import Any

import keras


def nodes(model: keras.Model) -> list[Any]:
    """The calls of layers and operations in topological order: what uses a tensor is less deep than what makes it."""
    return [node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth]]


def trains(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and bool(operation.trainable_variables)


def forward_work(node: Any) -> int:
    """Multiply-adds per example: each kernel at each place of the output; one a value for all that has no kernel."""
    if node.is_input:
        return 0
    layer = node.operation
    weights = layer.weights if isinstance(layer, keras.layers.Layer) else []
    kernels = [math.prod(weight.shape) for weight in weights if weight.name.endswith("kernel")]
    if not kernels:
        return values(node)
    return math.prod(node.outputs[0].shape[1:-1]) * sum(kernels)


def values(node: Any) -> int:
    """Numbers that the node makes of one example."""
    return sum(math.prod(tensor.shape[1:]) for tensor in node.outputs)


def trained_part(model: keras.Model) -> list[Any]:
    """The nodes from the lowest one that trains up to the output; none where nothing trains."""
    found = nodes(model)
    first = next((at for at, node in enumerate(found) if trains(node.operation)), len(found))
    return found[first:]


def backward_work(model: keras.Model) -> int:
    """Multiply-adds per example of the gradients: as much as forward for the weights of each layer that trains, and as
    much again for what flows down through each layer above the lowest one that trains.
    """
    part = trained_part(model)
    return sum(forward_work(node) * (trains(node.operation) + (at > 0)) for at, node in enumerate(part))


def kept_values(model: keras.Model) -> int:
    """Numbers per example that a step keeps until their gradients are made."""
    return sum(values(node) for node in trained_part(model))
