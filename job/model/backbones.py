"""The pretrained networks: EfficientNet-Lite0, those of keras.applications, and .keras files of the user's own."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.utils.naming import reset_uids

from job import config
from job.errors import JobError, nearest
from job.model import efficientnet_lite0
from job.model.flatten import flatten

LITE0 = "efficientnet_lite0"
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Pixels 0…255 to inputs: the channels turned round where `bgr`, then `x * scale + offset` per channel."""

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
    LITE0: Preprocessing(False, (1 / 128,) * 3, (-127 / 128,) * 3),
}


def build_base(model: config.Model, keras_file: str | None = None, weights: str | None = None) -> keras.Model:
    """A flat network from pixels 0…255, float32 [n, S, S, 3], to pooled features, float32 [n, d].

    `keras_file` is the local file of a backbone by URI; `weights` is "imagenet" or None (random). Layer names are the
    same in every process. Raises JobError where there is no such network, or it doesn't take such images.
    """
    reset_uids()  # else automatic names (`conv2d_93`) would depend on what this process built before
    size = model.image_size
    image = keras.Input([size, size, 3], dtype="float32", name="image")
    pixels = preprocessing(model)(image)
    if model.backbone == LITE0:
        output = efficientnet_lite0.features(pixels)
    elif keras_file is not None:
        output = flatten(_load_keras_file(keras_file, model), pixels)
    else:
        output = flatten(_build_application(model, weights), pixels)
    if isinstance(output, list) or len(output.shape) not in (2, 4):
        shape = [tuple(o.shape) for o in output] if isinstance(output, list) else tuple(output.shape)
        raise JobError(f"model.backbone: {model.backbone} must end in one tensor of rank 2 or 4, not in {shape}.")
    if len(output.shape) == 4:
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(output)
    else:
        pooled = keras.layers.Activation("linear", dtype="float32", name="pooled")(output)
    return keras.Model(image, pooled, name="base")


def draw_weights(base: keras.Model, seed: int) -> keras.Model:
    """Draws the weights of `base` anew: each initializer's by `seed`, its layer's name and its place there.

    Keras draws the seeds that nobody gave from Python's global generator, which any thread of the process may move.
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
    return base


def preprocessing(model: config.Model) -> Preprocessing:
    if model.preprocessing != "auto":
        return NAMED[model.preprocessing]
    if model.backbone == LITE0:
        return NAMED[LITE0]
    if "://" in model.backbone:
        return NAMED["none"]
    return probe(_application(model.backbone)[1].preprocess_input)


def probe(preprocess: Callable[[np.ndarray], np.ndarray]) -> Preprocessing:
    """Finds what a family's `preprocess_input` does, from black and from each of the pure colours."""
    pixels = np.concatenate([np.zeros([1, 3]), 255 * np.eye(3)]).astype(np.float32).reshape(4, 1, 1, 3)
    black, *colours = np.asarray(preprocess(pixels.copy()), np.float64).reshape(4, 3)
    slopes = (np.array(colours) - black) / 255
    bgr = abs(slopes[0, 2]) > abs(slopes[0, 0])
    scale = np.diag(slopes[:, ::-1] if bgr else slopes)
    if bgr:
        scale = scale[::-1]
    return Preprocessing(bool(bgr), tuple(scale.tolist()), tuple(black.tolist()))


def application_names() -> list[str]:
    return sorted(_applications())


def _applications() -> dict[str, tuple[Callable[..., keras.Model], ModuleType]]:
    """Each network of keras.applications with the module that has its preprocessing, by lower-case name."""
    networks = {name.lower(): build for name, build in vars(keras.applications).items() if name[0].isupper()}
    return {name: (build, sys.modules[build.__module__]) for name, build in networks.items()}


def _application(name: str) -> tuple[Callable[..., keras.Model], ModuleType]:
    known = _applications()
    if name not in known:
        raise JobError(
            f"model.backbone: no backbone {name!r}{nearest(name, [LITE0, *known])}: give {LITE0}, a name of "
            "keras.applications in lower case, or the URI of a .keras file."
        )
    return known[name]


def _build_application(model: config.Model, weights: str | None) -> keras.Model:
    build, _ = _application(model.backbone)
    shape = (model.image_size, model.image_size, 3)
    try:
        return build(include_top=False, weights=weights, input_shape=shape)
    except ValueError as error:
        raise JobError(
            f"model.image_size: {model.backbone} can't take {shape}: {str(error).splitlines()[0]}"
        ) from error


def _load_keras_file(file: str, model: config.Model) -> keras.Model:
    """Loads the user's network in safe mode: a file that carries code is refused."""
    try:
        loaded: Any = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its deserialisation meets: all of it is a bad file
        reason = " ".join(str(error).split())[:300]
        raise JobError(f"model.backbone: {model.backbone} can't be loaded safely (no code is run): {reason}") from error
    if not hasattr(loaded, "_nodes_by_depth") and not isinstance(loaded, keras.Sequential):
        raise JobError(f"model.backbone: {model.backbone} is no Functional or Sequential network, so it can't be cut.")
    shapes = [tuple(tensor.shape) for tensor in loaded.inputs]
    wanted = (model.image_size, model.image_size, 3)
    if (
        len(shapes) != 1
        or len(shapes[0]) != 4
        or any(d not in (None, w) for d, w in zip(shapes[0][1:], wanted, strict=True))
    ):
        raise JobError(f"model.image_size: {model.backbone} takes {shapes}, and the job file says {wanted}.")
    return loaded
