"""Replays a model's layers on another input, and replaces nested models by their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import tree


def call_frozen(operation: Any, args: Any, kwargs: Any) -> Any:
    """Calls an operation; a layer is called in inference mode."""
    if isinstance(operation, keras.layers.Layer) and operation._call_has_training_arg:
        kwargs = {**kwargs, "training": False}
    return operation(*args, **kwargs)


def flatten(model: keras.Model, inputs: Any, call: Callable[[Any, Any, Any], Any] = call_frozen) -> Any:
    """The outputs of `model` for `inputs` (a KerasTensor or a tensor), computed by the same layer objects.

    `call` is called with each operation and its arguments. Nested Functional and Sequential models are replayed, too: a
    model that is called as one layer hides its layers from the outer graph.
    """
    functional = model._functional if isinstance(model, keras.Sequential) else model
    known = {id(tensor): inputs for tensor in functional.inputs}
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.is_input or all(id(tensor) in known for tensor in node.outputs):
                continue
            args, kwargs = tree.map_structure(
                lambda value: known[id(value)] if isinstance(value, keras.KerasTensor) else value,
                (node.arguments.args, node.arguments.kwargs),
            )
            is_model = isinstance(node.operation, keras.Sequential) or hasattr(node.operation, "_nodes_by_depth")
            results = flatten(node.operation, args[0], call) if is_model else call(node.operation, args, kwargs)
            for tensor, result in zip(node.outputs, tree.flatten(results), strict=True):
                known[id(tensor)] = result
    outputs = [known[id(tensor)] for tensor in functional.outputs]
    return outputs[0] if len(outputs) == 1 else outputs
