"""The subject of an export in further formats: a network in float32, and examples of its run for the checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from job.export.exported import compiled
from job.export.formats.check import Answers
from job.export.formats.input_batches import batches
from job.export.formats.word_rows import ids_of, network_of_rows, rows_of, word_layer
from job.model.refresh import refresh


@dataclass(frozen=True)
class Samples:
    """Decoded examples of a run."""

    inputs: np.ndarray
    """Pixels, uint8 [n, S, S, 3], or word ids, int64 [n, L]."""
    labels: np.ndarray
    """Indexes into the classes, int32 [n]."""


@dataclass(frozen=True)
class Subject:
    network: keras.Model
    """Pixels, float32 [n, S, S, 3], rows of the vocabulary, int32 [n, L], or word ids, int64 [n, L] -> probabilities,
    float32 [n, classes]."""
    vocabulary: list[str]
    """The words of rows 1, 2, …; empty where the network takes no rows."""
    inputs: np.ndarray
    """The inputs for the check of each file, [n, …]; their type may be smaller than the network's."""
    labels: np.ndarray
    """The true classes of these inputs, int32 [n]."""
    answers: Answers
    """The answers of the Keras model to these inputs."""
    representative: np.ndarray
    """Inputs from the train split, for the ranges of int8."""


def make_subject(
    model: keras.Model, checked: Samples, representative: Samples, *, words: Callable[[np.ndarray], list[str]]
) -> Subject:
    """The subject of the model in model.keras. `words` returns the words of ids, in their order."""
    model = in_float32(model)
    answers = answers_of(model, checked.inputs)
    layer = word_layer(model)
    if layer is None:
        return Subject(model, [], checked.inputs, checked.labels, answers, representative.inputs)
    inputs = (rows_of(layer, samples.inputs) for samples in (checked, representative))
    return Subject(
        network_of_rows(model, layer), words(ids_of(layer)), next(inputs), checked.labels, answers, next(inputs)
    )


def answers_of(model: keras.Model, inputs: np.ndarray) -> Answers:
    ask = compiled(model)
    parts = [ask(batch) for batch in batches(inputs, model.input.dtype)]
    logits, probabilities = (np.concatenate([part.numpy() for part in of]) for of in zip(*parts, strict=True))
    return Answers(logits, probabilities)


def in_bfloat16(model: keras.Model) -> bool:
    """Whether any layer computes in bfloat16."""
    return any(layer.compute_dtype == "bfloat16" for layer in model.layers)


def in_float32(model: keras.Model) -> keras.Model:
    """The model with all layers computing in float32, and with the same weights, which are float32 in any case."""
    if not in_bfloat16(model):
        return model

    def again(layer: keras.layers.Layer) -> keras.layers.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    clone = keras.models.clone_model(model, clone_function=again)
    clone.set_weights(model.get_weights())
    refresh(clone)
    return clone
