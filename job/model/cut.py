"""Cuts of a network: single tensors through which everything flows from the pixels to the features.

They are the articulation points of the graph of layers. Below such a tensor, a frozen network is a pure function whose
output can be stored instead of being computed again in every epoch.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import keras

from job.model.flatten import flatten
from job.model.work import forward_work, nodes, trains

MACS_PER_BYTE = 300
"""Multiply-adds that take as long as one stored byte in an epoch: 3 ns, where two cores do 100 G of them a second.

The byte takes 1 ns to be read from a local copy, and 2 ns to be written to the store and read back at 100 MB a second,
once in ten epochs.
"""


@dataclass(frozen=True)
class Cut:
    """A tensor that separates a network into a prefix and a suffix."""

    layer: str
    """The name of the layer (or operation) whose output it is; `name/1` where it is the layer's second call."""
    tensor: keras.KerasTensor
    work_below: int
    """Multiply-adds per example from the pixels up to here."""
    work_above: int
    """Multiply-adds per example from here to the pooled features."""

    @property
    def values(self) -> int:
        """The number of values per example."""
        return math.prod(self.tensor.shape[1:])


def cuts(model: keras.Model) -> list[Cut]:
    """Every cut of a flat Functional network with one input and one output, from the bottom to the top.

    The input and the output are no cuts.
    """
    return [cut for _, cut in _placed_cuts(model)]


def cut_named(model: keras.Model, layer: str) -> Cut:
    """The cut at this layer; names of layers are the same in every process."""
    cuts_by_layer = {cut.layer: cut for cut in cuts(model)}
    assert layer in cuts_by_layer, f"{model.name} has no cut at {layer!r}"
    return cuts_by_layer[layer]


def legal_cuts(model: keras.Model) -> list[Cut]:
    """The cuts below every layer that trains, from the bottom to the top; every cut where nothing trains.

    Nothing below acts at random, because the network is always called in inference mode (see `flatten`).
    """
    calls = nodes(model)
    first = next((at for at, node in enumerate(calls) if trains(node.operation)), len(calls))
    return [cut for at, cut in _placed_cuts(model) if at < first]


def cheapest_cut(legal: list[Cut], bytes_per_value: int) -> Cut | None:
    """The cut with the lowest cost per example and epoch: bytes to read, and work above it. Of equals, the higher one.

    The highest is not always the cheapest: an expanded tensor inside a block holds several times the bytes of the
    block's input, one convolution below. None where there is no cut.
    """
    return min(
        reversed(legal),
        key=lambda cut: cut.work_above + MACS_PER_BYTE * bytes_per_value * cut.values,
        default=None,
    )


def split(model: keras.Model, cut: Cut) -> tuple[keras.Model, keras.Model]:
    """The `prefix` (pixels -> the tensor at the cut) and the `suffix` (that tensor -> pooled features).

    Both share the layers of `model`: training the suffix trains the model.
    """
    prefix = keras.Model(model.input, cut.tensor, name="prefix")
    values = keras.Input(batch_shape=cut.tensor.shape, dtype=cut.tensor.dtype)
    # The layers are replayed: `keras.Model(cut.tensor, …)` would take every later call of the cut's layer for an input.
    above = keras.Function(cut.tensor, model.output)
    return prefix, keras.Model(values, flatten(above, values), name="suffix")


def _placed_cuts(model: keras.Model) -> list[tuple[int, Cut]]:
    """Every cut with its place among the nodes.

    Walks the nodes in topological order. Where a node makes one tensor that is used, and nothing made before it is
    used after it, everything above depends on that tensor alone.
    """
    walk = nodes(model)
    last_use = {id(tensor): at for at, node in enumerate(walk) for tensor in node.input_tensors}
    works = [forward_work(node) for node in walk]
    placed: list[tuple[int, Cut]] = []
    calls: Counter[str] = Counter()
    below, open_until = 0, 0
    for at, node in enumerate(walk[:-1]):
        below += works[at]
        used = [tensor for tensor in node.outputs if id(tensor) in last_use]
        name, call = node.operation.name, calls[node.operation.name]
        calls[name] += 1
        if open_until <= at and len(used) == 1 and not node.is_input:
            layer = f"{name}/{call}" if call else name
            placed.append((at, Cut(layer, used[0], below, sum(works) - below)))
        open_until = max([open_until, *(last_use[id(tensor)] for tensor in used)])
    return placed
