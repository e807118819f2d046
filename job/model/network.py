"""Joins base and head to one flat network on the same layer objects."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from job.model.flatten import flatten


@dataclass(frozen=True)
class Network:
    base: keras.Model
    """Pixels 0…255, float32 [n, S, S, 3] (or ids of words, int64 [n, L]) -> pooled features float32 [n, d]."""
    head: keras.Model
    """Pooled features -> logits float32 [n, classes]."""
    model: keras.Model
    """The inputs of `base` -> logits."""


def build_network(base: keras.Model, head: keras.Model) -> Network:
    return Network(base, head, keras.Model(base.input, flatten(head, base.output), name="network"))


def variables_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable by its path `layer/variable`, which is the same in base, head and model, and in every process."""
    named: dict[str, keras.Variable] = {}
    for layer in model.layers:
        for variable in layer.variables:
            inside = variable.path.split("/")
            path = "/".join([layer.name, *inside[inside.index(layer.name) + 1 :]] if layer.name in inside else inside)
            if "seed_generator" in path:
                continue
            assert path not in named, f"two variables are called {path}"
            named[path] = variable
    return named
