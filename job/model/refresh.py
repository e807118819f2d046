"""Layers that make something of their variables once, and have to make it again when these are assigned."""

from __future__ import annotations

import keras


def refresh(model: keras.Model) -> None:
    """Brings every layer of `model`, also those inside others, up to its variables; called after any were assigned.

    Keras's Normalization computes with constants that it makes of its mean and its variance, and makes them again where
    Keras itself loads a file.
    """
    for layer in model._flatten_layers():
        if is_derived(layer):
            layer.finalize_state()


def is_derived(layer: keras.layers.Layer) -> bool:
    """Whether it answers by something that it has made of its variables. Layers that make it of tables (vocabularies,
    boundaries of bins) have no such variables: they are loaded with their file, and no assignment changes them.
    """
    return hasattr(layer, "finalize_state") and bool(layer.variables)
