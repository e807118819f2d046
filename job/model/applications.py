"""The networks of keras.applications, with or without what Keras adds to those that have pretrained weights."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras.src.utils import file_utils
from keras.src.utils.naming import reset_uids

from job import config
from job.errors import JobError, nearest

PIXELS = {"mean": (0.485, 0.456, 0.406), "variance": (0.229, 0.224, 0.225)}
"""What Keras's files have in the Normalization of a network for ImageNet: of its deviation's square root, the layer
takes the rest in a Rescaling of its own.
"""
CLOSE = 0.01
_building = threading.Lock()


def application_names() -> list[str]:
    return sorted(applications())


def applications() -> dict[str, tuple[Callable[..., keras.Model], ModuleType]]:
    """Each network of keras.applications with the module that has its preprocessing, by lower-case name."""
    networks = {name.lower(): build for name, build in vars(keras.applications).items() if name[0].isupper()}
    return {name: (build, sys.modules[build.__module__]) for name, build in networks.items()}


def application(name: str) -> tuple[Callable[..., keras.Model], ModuleType]:
    """Raises JobError where there is none of this name."""
    known = applications()
    if name not in known:
        raise JobError(
            f"model.backbone: no backbone {name!r}{nearest(name, [*config.LITE, *known])}: give "
            f"{', '.join(config.LITE)}, a name of keras.applications in lower case, or the URI of a .keras file."
        )
    return known[name]


def build_application(model: config.Model, architecture: str, fetch: bool = False) -> keras.Model:
    """Keras's own network without its top, for pictures of this size; `architecture`: `imagenet` as Keras builds it
    with weights="imagenet", `none` as with weights=None.

    Its weights are random, or, with `fetch`, ImageNet's, which Keras downloads. Raises JobError where it can't take
    such pictures; what Keras raises where the download fails.
    """
    build, _ = application(model.backbone)
    shape = (model.image_size, model.image_size, 3)
    weights = "imagenet" if architecture == "imagenet" else None
    try:
        with warnings.catch_warnings() if fetch or weights is None else _nothing_loaded():
            # MobileNets have one set of weights for all sizes, and say so.
            warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
            return build(include_top=False, weights=weights, input_shape=shape)
    except ValueError as error:
        raise JobError(
            f"model.image_size: {model.backbone} can't take {shape}: {str(error).splitlines()[0]}"
        ) from error


def with_top(model: config.Model) -> keras.Model:
    """The same network with ImageNet's classifier on it and random weights, of the size that it was made for."""
    reset_uids()
    return application(model.backbone)[0](weights=None)


def architecture_of(tensors: dict[str, np.ndarray]) -> str:
    """Reads the architecture off the variables in a file: whether they are those of a network that Keras builds with
    weights="imagenet".

    All networks are the same either way, but for those with a Normalization that is adapted (EfficientNet B0 to B7):
    Keras's own files have ImageNet's mean there. A network that was built with weights=None has zeros, or what it was
    adapted to, and no Rescaling.
    """
    for path, value in tensors.items():
        layer, _, name = path.rpartition("/")
        is_normalization = layer.startswith("normalization") and f"{layer}/count" in tensors
        if is_normalization and name in PIXELS and not np.allclose(value, PIXELS[name], rtol=0, atol=CLOSE):
            return "none"
    return "imagenet"


@contextmanager
def _nothing_loaded() -> Iterator[None]:
    """In this thread, Keras neither fetches weights nor loads them into what it builds."""
    builder = threading.get_ident()
    get_file, load_weights = file_utils.get_file, keras.Model.load_weights

    def no_file(*args: Any, **kwargs: Any) -> Any:
        return None if threading.get_ident() == builder else get_file(*args, **kwargs)

    def no_weights(network: keras.Model, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != builder:
            load_weights(network, *args, **kwargs)

    with _building, warnings.catch_warnings():
        file_utils.get_file, keras.Model.load_weights = no_file, no_weights
        try:
            yield
        finally:
            file_utils.get_file, keras.Model.load_weights = get_file, load_weights
