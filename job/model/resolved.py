"""Finds the pretrained weights of a job by their content, without TensorFlow, which takes seconds to import."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from job import config
from job.errors import ObjectMissing
from job.storage import Store, open_store, read_json, split_uri

FORMAT = 2
"""The format of requests; records in other formats are not read."""


@dataclass(frozen=True)
class ResolvedBase:
    """The base of a run, identified by its content."""

    weights_sha256: str
    """`weights/<sha256>.safetensors` has every variable by path. With glove, it is the sha256 of the file of vectors.
    """
    keras_sha256: str | None = None
    """`weights/<sha256>.keras` is the user's own network; None for other backbones."""


def known_base(store: Store, request: dict[str, Any]) -> ResolvedBase | None:
    """The base that a request was resolved to before, or None."""
    record = read_json(store, record_key(request))
    return None if record is None else ResolvedBase(**record)


def record_base(store: Store, request: dict[str, Any], resolved: ResolvedBase) -> None:
    store.write(record_key(request), json.dumps(asdict(resolved)).encode())


def weights_request(model: config.Model, seed: int) -> dict[str, Any]:
    """Everything that decides which weights are used. An object by URI counts with its version."""
    source = model.weights_source
    request: dict[str, Any] = {"format": FORMAT, "backbone": model.backbone, "weights": source}
    if model.end_at is not None:
        request["end_at"] = model.end_at
    if source == "none":
        request |= {"seed": seed, "image_size": model.image_size}
    if isinstance(source, config.Weights):
        request |= {"weights": source.model_dump(), "version": _version(source.uri, "model.weights")}
    if "://" in model.backbone:
        request["backbone_version"] = _version(model.backbone, "model.backbone")
    return request


def record_key(request: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    return f"weights/resolved/{digest[:20]}.json"


def _version(uri: str, where: str) -> str:
    root, name = split_uri(uri)
    info = open_store(root).stat(name)
    if info is None:
        raise ObjectMissing(f"{where}: there is no object {uri}.")
    return info.version
