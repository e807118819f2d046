"""The pretrained networks: EfficientNet-Lite, those of keras.applications, and .keras files of the user's own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.src.utils.naming import reset_uids

from job import config
from job.errors import JobError, nearest
from job.model import efficientnet_lite
from job.model.applications import application, build_application
from job.model.applications import application_names as application_names
from job.model.flatten import flatten
from job.model.refresh import refresh
from job.model.words import Vocabulary, word_vectors
from job.model.work import nodes

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Maps pixels 0…255 to inputs: reverses the channels where `bgr`, then computes `x * scale + offset` per
    channel.
    """

    bgr: bool = False
    scale: Triple = (1.0, 1.0, 1.0)
    offset: Triple = (0.0, 0.0, 0.0)

    def __call__(self, x: keras.KerasTensor) -> keras.KerasTensor:
        if self.bgr:
            x = keras.ops.flip(x, axis=-1)
        if self.scale == (1.0, 1.0, 1.0) and self.offset == (0.0, 0.0, 0.0):
            return x
        return keras.layers.Rescaling(list(self.scale), list(self.offset), dtype="float32", name="preprocessing")(x)


def _normalized(mean: Triple, deviation: Triple) -> Preprocessing:
    scale = tuple(1 / 255 / d for d in deviation)
    return Preprocessing(False, scale, tuple(-m / d for m, d in zip(mean, deviation, strict=True)))  # type: ignore[arg-type]


NAMED = {
    "none": Preprocessing(),
    "unit": Preprocessing(False, (1 / 255,) * 3),
    "symmetric": Preprocessing(False, (1 / 127.5,) * 3, (-1.0,) * 3),
    "torch": _normalized((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Preprocessing(True, (1.0, 1.0, 1.0), (-103.939, -116.779, -123.68)),
    "lite": Preprocessing(False, (1 / 128,) * 3, (-127 / 128,) * 3),
}


def build_base(
    model: config.Model,
    keras_file: str | None = None,
    vocabulary: Vocabulary | None = None,
    *,
    architecture: str | None = None,
) -> keras.Model:
    """Builds the base: a flat network from pixels 0…255, float32 [n, S, S, 3], or from word ids, int64 [n, L], to
    pooled features, float32 [n, d]. With the backbone glove, it knows the words of `vocabulary`.

    `keras_file` is the local file of a backbone by URI; the base then has its weights, otherwise random ones.
    `architecture` is that of `build_application`: by default, `imagenet` unless the job says `weights: none`. Layer
    names are the same in every process. Raises JobError where there is no such network, or it can't take such inputs.
    """
    if vocabulary is None:
        return base_on(model, source_network(model, keras_file, architecture))
    reset_uids()
    words = keras.Input([model.max_tokens], dtype="int64", name="words")
    return _pooled(model, words, word_vectors(words, vocabulary, pooled=model.encoder == "mean"), rank=3)


def source_network(
    model: config.Model, keras_file: str | None = None, architecture: str | None = None, *, fetch: bool = False
) -> keras.Model | None:
    """The Keras network that the base is built from: the user's file, or a network of keras.applications (with `fetch`,
    with ImageNet's weights). None where `base_on` builds the base layer by layer. Raises as `build_base`.
    """
    reset_uids()  # else automatic names (`conv2d_93`) would depend on what this process built before
    if keras_file is not None:
        return _load_keras_file(keras_file, model)
    if model.backbone in config.LITE:
        return None
    return build_application(model, architecture or default_architecture(model), fetch)


def default_architecture(model: config.Model) -> str:
    return "none" if model.weights_source == "none" else "imagenet"


def base_on(model: config.Model, network: keras.Model | None) -> keras.Model:
    """The flat base on the layers of `network`, up to the layer where the job ends it."""
    if network is not None and _takes_words(network):
        inputs, rank = keras.Input([model.max_tokens], dtype="int64", name="words"), 3
        replayed = inputs
    else:
        inputs, rank = keras.Input([model.image_size, model.image_size, 3], dtype="float32", name="image"), 4
        replayed = preprocessing(model)(inputs)
    output = efficientnet_lite.features(replayed, model.backbone) if network is None else flatten(network, replayed)
    if model.end_at is not None:
        output = _end(model, network, inputs, replayed=replayed, output=output)
    return _pooled(model, inputs, output, rank=rank)


def _end(model: config.Model, network: keras.Model | None, inputs: Any, *, replayed: Any, output: Any) -> Any:
    """The output of the layer `model.end_at`, which may also be a model inside the network."""
    ends = _outputs_by_name(keras.Model(inputs, output))
    inside = {} if network is None else _outputs_by_name(_functional(network))
    layer = model.end_at or ""
    if layer in ends:
        return ends[layer]
    if network is not None and layer in inside:
        return flatten(keras.Model(network.inputs, inside[layer]), replayed)
    near = nearest(layer, [*ends, *inside])
    raise JobError(f"model.end_at: no layer {layer!r} in {model.backbone}{near}.")


def _outputs_by_name(network: keras.Model) -> dict[str, Any]:
    """The output of each layer or operation, without inputs and preprocessing; `name/1` is a layer's second call."""
    calls: Counter[str] = Counter()
    outputs = {}
    for node in nodes(network):
        name = node.operation.name
        if not node.is_input and name != "preprocessing" and len(node.outputs) == 1:
            outputs[f"{name}/{calls[name]}" if calls[name] else name] = node.outputs[0]
        calls[name] += 1
    return outputs


def _functional(network: Any) -> Any:
    return network._functional if isinstance(network, keras.Sequential) else network


def _pooled(model: config.Model, inputs: keras.KerasTensor, output: Any, *, rank: int) -> keras.Model:
    """The base: the mean over the positions of `output` where it has this rank, or `output` itself where it has
    rank 2.
    """
    if isinstance(output, list) or len(output.shape) not in (2, rank):
        shape = [tuple(o.shape) for o in output] if isinstance(output, list) else tuple(output.shape)
        setting, what = ("backbone", model.backbone) if model.end_at is None else ("end_at", repr(model.end_at))
        raise JobError(f"model.{setting}: {what} must end in one tensor of rank 2 or {rank}, not in {shape}.")
    layers = keras.layers
    mean: Any = layers.GlobalAveragePooling2D if rank == 4 else layers.GlobalAveragePooling1D
    pool = layers.Activation("linear", dtype="float32", name="pooled")
    if len(output.shape) == rank:
        pool = mean(dtype="float32", name="pooled")
    return keras.Model(inputs, pool(output), name="base")


def draw_weights(base: keras.Model, seed: int) -> keras.Model:
    """Draws the weights of `base` again, each by an initializer seeded from `seed` and the place of the variable.

    Keras draws missing seeds from Python's global generator, which any thread of the process may advance.
    """

    def give(config: Any, place: str) -> Any:
        if isinstance(config, dict):
            return {key: give(value, f"{place}/{key}") for key, value in config.items()}
        if place.endswith("/seed") and config is None:
            return int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4], "big") >> 1
        return config

    config = base.get_config()
    config["layers"] = [give(layer, layer["name"]) for layer in config["layers"]]
    base.set_weights(keras.Model.from_config(config).get_weights())
    refresh(base)
    return base


def preprocessing(model: config.Model) -> Preprocessing:
    if model.preprocessing != "auto":
        return NAMED[model.preprocessing]
    if model.backbone in config.LITE:
        return NAMED["lite"]
    if "://" in model.backbone:
        return NAMED["none"]
    return probe(application(model.backbone)[1].preprocess_input)


def probe(preprocess: Callable[[np.ndarray], np.ndarray]) -> Preprocessing:
    """Finds the preprocessing that a `preprocess_input` does, by its outputs for black and for each pure colour."""
    pixels = np.concatenate([np.zeros([1, 3]), 255 * np.eye(3)]).astype(np.float32).reshape(4, 1, 1, 3)
    black, *colours = np.asarray(preprocess(pixels.copy()), np.float64).reshape(4, 3)
    slopes = (np.array(colours) - black) / 255
    bgr = abs(slopes[0, 2]) > abs(slopes[0, 0])
    scale = np.diag(slopes[:, ::-1] if bgr else slopes)
    if bgr:
        scale = scale[::-1]
    return Preprocessing(bool(bgr), tuple(scale.tolist()), tuple(black.tolist()))


def _load_keras_file(file: str, model: config.Model) -> keras.Model:
    """Loads the user's network in safe mode, which refuses files that contain code. Raises JobError."""
    try:
        loaded: Any = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its deserialisation meets: all of it is a bad file
        reason = " ".join(str(error).split())[:300]
        raise JobError(f"model.backbone: {model.backbone} can't be loaded safely (no code is run): {reason}") from error
    if not hasattr(loaded, "_nodes_by_depth") and not isinstance(loaded, keras.Sequential):
        raise JobError(f"model.backbone: {model.backbone} is no Functional or Sequential network, so it can't be cut.")
    shapes = [tuple(tensor.shape) for tensor in loaded.inputs]
    size, words = model.image_size, _takes_words(loaded)
    key, shape = ("max_tokens", (model.max_tokens,)) if words else ("image_size", (size, size, 3))
    if (
        len(shapes) != 1
        or len(shapes[0]) != 1 + len(shape)
        or any(d not in (None, w) for d, w in zip(shapes[0][1:], shape, strict=True))
    ):
        raise JobError(f"model.{key}: {model.backbone} takes {shapes}, and the job file says {shape}.")
    return loaded


def _takes_words(loaded: keras.Model) -> bool:
    """Whether the network takes word ids, integers [n, L], rather than pictures."""
    first = loaded.inputs[0]
    return len(first.shape) == 2 and "int" in str(first.dtype)
