"""The networks of keras.applications, with or without the layers that Keras adds for pretrained weights."""

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
"""The mean and the variance in the Normalization of Keras's ImageNet files. (A Rescaling of its own corrects for the
square root of the deviation.)
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
    """The builder of a network of keras.applications, and the module of its preprocessing. Raises JobError for an
    unknown name.
    """
    known = applications()
    if name not in known:
        raise JobError(
            f"model.backbone: no backbone {name!r}{nearest(name, [*config.LITE, *known])}: give "
            f"{', '.join(config.LITE)}, a name of keras.applications in lower case, or the URI of a .keras file."
        )
    return known[name]


def build_application(model: config.Model, architecture: str, fetch: bool = False) -> keras.Model:
    """Builds Keras's own network without its top, for pictures of the job's size. The `architecture` is `imagenet` (as
    Keras builds it with weights="imagenet") or `none` (as with weights=None).

    Its weights are random, or with `fetch` those of ImageNet, which Keras downloads. Raises JobError where the network
    can't take such pictures, and whatever Keras raises where the download fails.
    """
    build, _ = application(model.backbone)
    shape = (model.image_size, model.image_size, 3)
    weights = "imagenet" if architecture == "imagenet" else None
    try:
        with warnings.catch_warnings() if fetch or weights is None else _without_weights():
            # MobileNets have one set of weights for all sizes, and warn about it.
            warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
            return build(include_top=False, weights=weights, input_shape=shape)
    except ValueError as error:
        raise JobError(
            f"model.image_size: {model.backbone} can't take {shape}: {str(error).splitlines()[0]}"
        ) from error


def with_top(model: config.Model) -> keras.Model:
    """The same network with ImageNet's classifier and random weights, for pictures of its original size."""
    reset_uids()
    return application(model.backbone)[0](weights=None)


def architecture_of(tensors: dict[str, np.ndarray]) -> str:
    """The architecture (see `build_application`) of the network whose variables are in a file.

    Both architectures are the same except in networks with an adapted Normalization (EfficientNet B0 to B7). There,
    Keras's own files have the mean of ImageNet. A network that was built with weights=None has zeros, or the mean of
    its own data, and no Rescaling.
    """
    for path, value in tensors.items():
        layer, _, name = path.rpartition("/")
        is_normalization = layer.startswith("normalization") and f"{layer}/count" in tensors
        if is_normalization and name in PIXELS and not np.allclose(value, PIXELS[name], rtol=0, atol=CLOSE):
            return "none"
    return "imagenet"


@contextmanager
def _without_weights() -> Iterator[None]:
    """While this is open, Keras neither downloads weights nor loads them into networks, in this thread alone."""
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
