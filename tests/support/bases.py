"""Networks of keras.applications with stand-ins for the weights that Keras downloads, and how far ours are from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group
from keras.src.utils import file_utils
from keras.src.utils.naming import reset_uids

from job.config import Model, Weights
from job.model.applications import PIXELS, application
from job.model.flatten import call_frozen, flatten
from job.model.weights import load_base, resolve_base
from job.storage import open_store

SMALLEST = {"inceptionresnetv2": 75, "inceptionv3": 75, "xception": 71}
"""Pixels, where it isn't 32."""


@dataclass(frozen=True)
class Difference:
    """Between Keras's network and ours: the largest one, in standard deviations of Keras's values."""

    features: float
    layers: dict[str, float]
    """Of each layer whose name both have, from the bottom to the top."""
    all_layers: int
    """Of Keras's network, nested ones counted as one."""
    length: int
    """Of the features."""

    def first_above(self, most: float) -> str | None:
        return next((name for name, difference in self.layers.items() if not difference <= most), None)


def size_of(name: str) -> int:
    return SMALLEST.get(name, 32)


def pictures(size: int, count: int = 2) -> np.ndarray:
    """Noise in squares of some pixels, float32 [n, S, S, 3] from 0 to 255."""
    coarse = np.random.default_rng(7).integers(0, 256, [count, size // 4 + 1, size // 4 + 1, 3])
    return coarse.repeat(4, 1).repeat(4, 2)[:, :size, :size].astype(np.float32)


def stand_in(name: str, file: Path, include_top: bool = False, adapted: bool = True) -> Path:
    """Writes random weights in the format that Keras downloads, with which a signal lives to the network's end.

    `adapted`: Normalization has the numbers of Keras's own files, not those of a network that nobody adapted.
    """
    build, _ = application(name)
    size = size_of(name)
    kind: dict[str, Any] = (
        {"include_top": True} if include_top else {"include_top": False, "input_shape": (size, size, 3)}
    )
    keras.utils.set_random_seed(1)
    reset_uids()
    network = build(weights=None, **kind)
    if adapted:
        for variable in network.variables:
            if variable.path.startswith("normalization"):
                variable.assign(PIXELS.get(variable.name, 0))
        write(network, file)
        with downloaded(file):
            network = build(weights="imagenet", **kind)
    enliven(network)
    write(network, file)
    return file


def enliven(network: keras.Model) -> None:
    """Gains and biases that tell layers apart, and moving averages of pictures, as a trained network has them: with
    those of an untrained one a signal dies out. Means are left half in place, so that what is rounded does not grow
    from layer to layer.
    """
    drawn = np.random.default_rng(3)

    def call(operation: Any, args: Any, kwargs: Any) -> Any:
        for variable in getattr(operation, "trainable_variables", []):
            if variable.name == "gamma":
                variable.assign(drawn.uniform(0.7, 1.3, variable.shape))
            elif variable.name in ("beta", "bias"):
                variable.assign(drawn.normal(0, 0.1, variable.shape))
        if isinstance(operation, keras.layers.BatchNormalization):
            values = np.asarray(args[0]).reshape(-1, args[0].shape[-1])
            mean = values.mean(axis=0) / 2
            operation.moving_mean.assign(mean)
            operation.moving_variance.assign(values.var(axis=0) + mean**2 + 1e-3)
        return call_frozen(operation, args, kwargs)

    flatten(network, keras.ops.convert_to_tensor(pictures(network.input_shape[1] or size_of(""), 8)), call)


def write(network: keras.Model, file: Path) -> None:
    with h5py.File(file, "w") as target:
        save_weights_to_hdf5_group(target, network)


@contextmanager
def downloaded(file: Path) -> Iterator[None]:
    """Keras finds this file where it looks for one on the internet."""
    get_file = file_utils.get_file
    file_utils.get_file = lambda *args, **kwargs: str(file)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`input_shape` is undefined")  # of MobileNets
            yield
    finally:
        file_utils.get_file = get_file


def keras_answers(name: str, file: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The features, and what each layer gives, of the network that Keras builds with weights="imagenet"."""
    build, module = application(name)
    size = size_of(name)
    reset_uids()
    with downloaded(file):
        network = build(include_top=False, weights="imagenet", input_shape=(size, size, 3))
    answers = by_layer(network)(module.preprocess_input(pictures(size)))
    return answers[list(answers)[-1]].mean(axis=(1, 2)), answers


def our_base(name: str, file: Path, folder: Path, by_uri: bool, **settings: Any) -> keras.Model:
    """As a worker loads it from the store."""
    weights = Weights(uri=f"file://{file}") if by_uri else "imagenet"
    model = Model(backbone=name, weights=weights, image_size=size_of(name), **settings)
    store = open_store(f"file://{folder}/store/")
    with downloaded(file):
        resolved, _ = resolve_base(model, store, 0, log=lambda _: None)
    return load_base(model, store, resolved)


def by_layer(network: keras.Model) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What each layer of a network gives, in their order."""
    outputs = {node.operation.name: node.outputs[0] for node in _nodes(network) if len(node.outputs) == 1}
    ask = keras.Model(network.input, outputs)
    return lambda inputs: {name: np.asarray(answer, np.float32) for name, answer in ask(inputs, training=False).items()}


def output_of(network: keras.Model, layer: str) -> keras.KerasTensor:
    return next(node.outputs[0] for node in _nodes(network) if node.operation.name == layer)


def _nodes(network: keras.Model) -> list[Any]:
    found = [node for depth in sorted(network._nodes_by_depth, reverse=True) for node in network._nodes_by_depth[depth]]
    return [node for node in found if not node.is_input]


def difference(name: str, file: Path, folder: Path, by_uri: bool = False) -> Difference:
    """Between Keras's own network on preprocessed pixels, and our base on the pixels themselves."""
    features, theirs = keras_answers(name, file)
    return from_answers(features, theirs, our_base(name, file, folder, by_uri), pictures(size_of(name)))


def from_answers(
    features: np.ndarray, theirs: dict[str, np.ndarray], base: keras.Model, inputs: np.ndarray
) -> Difference:
    ours = by_layer(base)(inputs)
    shared = {layer: relative(theirs[layer], ours[layer]) for layer in theirs if layer in ours}
    return Difference(relative(features, ours["pooled"]), shared, len(theirs), features.shape[-1])


def relative(wanted: np.ndarray, got: np.ndarray) -> float:
    if wanted.shape != got.shape:
        return float("inf")
    return float(np.abs(wanted - got).max() / max(wanted.std(), 1e-30))
