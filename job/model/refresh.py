"""Layers that derive constants from their variables, and have to derive them again when these are assigned."""

from __future__ import annotations

import keras


def refresh(model: keras.Model) -> None:
    """Updates every layer of `model`, also nested ones, to its variables. To be called after any were assigned.

    Keras's Normalization computes with constants derived from its mean and variance. Keras derives them again only when
    it loads a file itself.
    """
    for layer in model._flatten_layers():
        if is_derived(layer):
            layer.finalize_state()


def is_derived(layer: keras.layers.Layer) -> bool:
    """Whether the layer computes with constants derived from its variables. Layers with constants derived from tables
    (vocabularies, boundaries of bins) have no such variables: no assignment changes them.
    """
    return hasattr(layer, "finalize_state") and bool(layer.variables)
