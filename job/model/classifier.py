"""Finds out whether a base ends in a classifier of its own, whose few outputs are poor features for other classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

PROBABILITIES = ("softmax", "log_softmax", "logsoftmax", "sigmoid", "hard_sigmoid", "hardsigmoid", "sparsemax")
FEW = 32
"""A last dense layer without an activation and with fewer units than this is taken for a classifier's logits;
embeddings have more.
"""
NAMED = re.compile(r"predictions?|logits|classifier|classification", re.IGNORECASE)
"""Names of a classifier's layer, whatever its size."""
UNCHANGED = {
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("Identity", "ActivityRegularization"),
}
"""Layers that change nothing in inference."""
BETWEEN = {
    *("Flatten", "Reshape", "GlobalAveragePooling2D", "GlobalAveragePooling1D"),
    *("GlobalMaxPooling2D", "GlobalMaxPooling1D"),
}
"""Layers without weights that may lie between a classifier's weights and the end."""


@dataclass(frozen=True)
class Classifier:
    """The classifier that a base ends in."""

    layer: str
    """The layer with the weights."""
    units: int
    kind: str
    """`softmax`, …, or `logits`."""
    below: str | None
    """The layer to end at instead; None where there is none."""

    def advice(self, backbone: str) -> str:
        """One or two sentences that tell the user what to do about the classifier."""
        what = "logits" if self.kind == "logits" else f"{self.kind} outputs"
        number = f"{self.units} {what if self.units > 1 else what.removesuffix('s')}"
        ends = f"{backbone} ends in a classifier of its own ({self.layer}): its {number} would be all features"
        if self.below is None:
            return f"{ends}. Give a network that ends in features."
        return f"{ends}. Write model.end_at: {self.below}; or {self.layer}, where that is meant."


def classifier_of(base: keras.Model) -> Classifier | None:
    """The classifier that a flat base ends in. None where it ends in features, which are a pooled tensor, or a dense
    layer of many units without softmax or sigmoid.
    """
    import keras

    from job.model.work import nodes

    made_by = {id(tensor): node for node in nodes(base) for tensor in node.outputs}
    node, kind = _below(made_by[id(base.output)], made_by), ""
    while node is not None:
        operation = node.operation
        kind = kind or _probabilities(operation)
        if isinstance(operation, keras.layers.Dense) or (kind and _is_convolution(operation)):
            break
        if type(operation).__name__ not in UNCHANGED | BETWEEN and not _is_activation(operation, kind):
            return None
        node = _below(node, made_by)
    if node is None or not (kind or _gives_logits(operation, base.output_shape[-1])):
        return None
    return Classifier(operation.name, int(base.output_shape[-1]), kind or "logits", _named_below(node, made_by))


def _below(node: Any, made_by: dict[int, Any]) -> Any:
    """The node that makes the only input of `node`; None where that is the network's input, or there are several."""
    if len(node.input_tensors) != 1:
        return None
    below = made_by[id(node.input_tensors[0])]
    return None if below.is_input else below


def _named_below(node: Any, made_by: dict[int, Any]) -> str | None:
    """The name of the next layer below that changes something in inference; None where no weights are at or below
    it.
    """
    below = _below(node, made_by)
    while below is not None and type(below.operation).__name__ in UNCHANGED:
        below = _below(below, made_by)
    if below is None:
        return None
    return below.operation.name if _has_weights(below, made_by) else None


def _has_weights(node: Any, made_by: dict[int, Any]) -> bool:
    """Whether the node has weights, or a node below it has."""
    pending, seen = [node], {id(node)}
    while pending:
        current = pending.pop()
        if getattr(current.operation, "weights", None):
            return True
        below = {id(node): node for node in (made_by[id(tensor)] for tensor in current.input_tensors)}
        pending += [node for key, node in below.items() if key not in seen]
        seen |= below.keys()
    return False


def _probabilities(operation: Any) -> str:
    """The name of the function by which the operation makes probabilities, or ""."""
    names = [type(operation).__name__.lower(), getattr(getattr(operation, "activation", None), "__name__", "")]
    return next((name for name in names if name in PROBABILITIES), "")


def _is_activation(operation: Any, kind: str) -> bool:
    """Whether the operation is only an activation: one that gives probabilities, a linear one, or below a softmax
    any.
    """
    if type(operation).__name__ == "Activation":
        return bool(kind) or operation.activation.__name__ == "linear"
    return bool(_probabilities(operation))


def _is_convolution(operation: Any) -> bool:
    return type(operation).__name__ in ("Conv2D", "Conv1D")


def _gives_logits(dense: Any, units: int) -> bool:
    if dense.activation.__name__ != "linear":
        return False
    return units < FEW or bool(NAMED.search(dense.name))
