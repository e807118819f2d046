"""Whether an API server would take an object as it is, and keep every field of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from support.kustomize import templates

CUSTOM = Path(__file__).parents[1] / "manifests/crds"
VERSION = "1.32"
Object = dict[str, Any]


def validate(document: Object) -> None:
    """Raises ValidationError of kubernetes_validate, or of jsonschema."""
    _validate(json.dumps(document))
    if document["kind"] == "RayCronJob":
        _validate(json.dumps({**document, "kind": "RayJob", "spec": document["spec"]["jobTemplate"]}))
    for pod in pods_of(document):
        _validate(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": pod["spec"]}))


def pods_of(document: Object) -> Iterator[Object]:
    """The templates of the pods that are made of it."""
    spec = document.get("spec", {})
    match document["kind"]:
        case "Pod":
            yield document
        case "Deployment":
            yield spec["template"]
        case "ScaledJob":
            yield spec["jobTargetRef"]["template"]
        case "RayJob":
            yield from templates(document).values()
        case "RayCronJob":
            yield from templates({"spec": spec["jobTemplate"]}).values()


@cache
def _validate(text: str) -> None:
    """What is the same in many overlays is validated once."""
    document = json.loads(text)
    schema = CUSTOM / f"{document['kind']}.json"
    if schema.exists():
        jsonschema.Draft202012Validator(_closed(json.loads(schema.read_text()), whole=True)).validate(document)
    else:
        kubernetes_validate.validate(document, VERSION, strict=True)


def _closed(schema: Any, *, whole: bool = False) -> Any:
    """The schema, which refuses what an API server drops: fields that it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items() if name != "properties"}
    if "properties" in schema:
        closed["properties"] = {name: _closed(value) for name, value in schema["properties"].items()}
        if whole:
            closed["properties"]["metadata"] = {}
        if "x-kubernetes-preserve-unknown-fields" not in schema:
            closed.setdefault("additionalProperties", False)
    return closed
