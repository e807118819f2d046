"""Reads the user's weights file: safetensors by path, Keras's own formats, or PyTorch's of an EfficientNet-Lite."""

from __future__ import annotations

import io
import json
from typing import Any

import keras
from safetensors import SafetensorError
from safetensors.numpy import load

from job import config
from job.errors import JobError
from job.model.applications import applications, architecture_of, build_application, with_top
from job.model.backbones import base_on, build_base, source_network
from job.model.network import variables_by_path
from job.model.refresh import refresh
from job.model.tensors import Tensors, assign, lite_tensors, values

FORMATS = (".safetensors", ".weights.h5", ".h5", ".keras", ".pth")
ARCHITECTURE = "architecture"
"""The key of the architecture in the metadata of a safetensors file."""


def read_weights(
    model: config.Model, source: config.Weights, keras_file: str | None, *, file: str, content: bytes
) -> tuple[keras.Model, str | None]:
    """The base with the weights in `file` (with the bytes `content`), and the architecture that these weights have.

    `keras_file` is the local file of a backbone by URI. Raises JobError where the weights do not fit the backbone.
    """
    uri = source.uri
    suffix = next((suffix for suffix in FORMATS if uri.endswith(suffix)), None)
    if suffix is None or (suffix == ".pth" and model.backbone not in config.LITE):
        raise JobError(
            f"model.weights: {uri}: the format must be one of {', '.join(FORMATS)} (.pth for EfficientNet-Lite)."
        )
    try:
        if suffix == ".pth":
            base, architecture = build_base(model), None
            tensors = lite_tensors(io.BytesIO(content), uri, model.backbone, base=base)
        else:
            tensors, architecture = _read(suffix, model, keras_file, uri=uri, file=file, content=content)
            architecture = architecture or architecture_of(tensors)
            base = build_base(model, keras_file, architecture=architecture)
        assign(base, _without_layers_above(tensors, base, model, keras_file=keras_file), uri)
        return base, architecture
    except JobError:
        raise
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise JobError(f"model.weights: {uri} does not fit {model.backbone}, or is broken: {reason}") from error


def noted_architecture(content: bytes) -> str | None:
    """The architecture that is noted in a safetensors file of a store; None where it makes no difference."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header.get("__metadata__", {}).get(ARCHITECTURE)


def _read(
    suffix: str, model: config.Model, keras_file: str | None, *, uri: str, file: str, content: bytes
) -> tuple[Tensors, str | None]:
    """The variables by path, and the architecture where the file itself says it."""
    if suffix == ".safetensors":
        return load(content), noted_architecture(content)
    if suffix == ".keras":
        other = base_on(*_source(_whole(model, backbone=uri, preprocessing="none"), file))
        return values(other), _architecture_in(other, model)
    return _read_keras_weights(model, keras_file, file), None


def _read_keras_weights(model: config.Model, keras_file: str | None, file: str) -> Tensors:
    """The variables of a Keras weights file. Keras loads them into its own network, whose layers have another order
    than those of the flat base; or where they do not fit that, into the network with ImageNet's classifier.
    """
    whole, network = _source(_whole(model), keras_file)
    if network is None:
        network = build_base(whole)
        network.load_weights(file)
        return values(network)
    try:
        network.load_weights(file)
    except ValueError as error:
        if model.backbone not in applications():
            raise
        network = with_top(model)
        try:
            network.load_weights(file)
        except ValueError:
            raise error from None
        whole = _whole(model, image_size=network.input_shape[1] or model.image_size)
    refresh(network)
    return values(base_on(whole, network))


def _architecture_in(other: keras.Model, model: config.Model) -> str | None:
    """The architecture of a loaded network: `imagenet` where it has all rescalings of Keras's pretrained network."""
    if model.backbone not in applications():
        return None
    there, pretrained = _scalings(other), _scalings(build_application(model, "imagenet"))
    return "imagenet" if all(scaling in there for scaling in pretrained) else "none"


def _scalings(network: keras.Model) -> list[str]:
    layers = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.Rescaling)]
    return [str((layer.scale, layer.offset)) for layer in layers]


def _without_layers_above(
    tensors: Tensors, base: keras.Model, model: config.Model, *, keras_file: str | None
) -> Tensors:
    """The tensors without those of layers above the end of the base, which many files contain as well."""
    own = variables_by_path(base).keys()
    above: set[str] = set()
    if model.end_at is not None and tensors.keys() - own:
        above = {*variables_by_path(build_base(_whole(model), keras_file))}
    if model.backbone in applications() and tensors.keys() - own - above:
        above |= {*variables_by_path(with_top(model))}
    return {path: value for path, value in tensors.items() if path in own or path not in above}


def _whole(model: config.Model, **changed: Any) -> config.Model:
    """The model section without `end_at`, and with the `changed` values."""
    return model.model_copy(update={"end_at": None, **changed})


def _source(model: config.Model, keras_file: str | None) -> tuple[config.Model, keras.Model | None]:
    return model, source_network(model, keras_file)
