"""What Terraform made, as a part of an overlay: URIs, the image, and who the pods are.

It is one file, a kustomize component, so that it is replaced as a whole or not at all.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from job.deploy.manifest import as_yaml
from job.errors import JobError
from job.storage.filesystem import half_file

LARGEST = 1 << 20
"""Bytes of `terraform output -json` that are read."""
WRITTEN = "# Written by `terraform output -json | thaw overlay"
FILE = "kustomization.yaml"


class Shape(NamedTuple):
    """What an output must look like."""

    pattern: str
    """All of it matches this."""
    example: str
    annotation: str | None = None
    """The output is {annotation: value}, and the value is what matches."""


def _shapes(scheme: str, *, queue: Shape, identity: Shape) -> dict[str, Shape]:
    uri = Shape(rf"{scheme}://[a-z0-9][a-z0-9._-]{{1,220}}[a-z0-9]/([A-Za-z0-9._=-]+/)*", f"{scheme}://BUCKET/FOLDER/")
    return {
        "data_uri": uri,
        "store_uri": uri,
        "queue": queue,
        "run_service_account_annotation": identity,
        "watch_service_account_annotation": identity,
        "image_repository": Shape(
            r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+", "REGISTRY/NAME, without a tag"
        ),
    }


OUTPUTS = {
    "aws": _shapes(
        "s3",
        queue=Shape(
            r"https://[a-z0-9.-]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}", "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        ),
        identity=Shape(
            r"arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,128}",
            "arn:aws:iam::ACCOUNT:role/NAME",
            "eks.amazonaws.com/role-arn",
        ),
    ),
    "gcp": _shapes(
        "gs",
        queue=Shape(
            r"projects/[a-z0-9.:-]{6,64}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}",
            "projects/PROJECT/subscriptions/NAME",
        ),
        identity=Shape(
            r"[a-z0-9-]{6,30}@[a-z0-9.-]+\.iam\.gserviceaccount\.com",
            "NAME@PROJECT.iam.gserviceaccount.com",
            "iam.gke.io/gcp-service-account",
        ),
    ),
}
"""The outputs of terraform/examples, by cloud and name."""


def write_outputs(cloud: str, document: bytes, folder: Path) -> Path:
    """Writes the component of these outputs into `folder`, and returns its file. Raises JobError."""
    component = f"{WRITTEN} {cloud}`.\n{as_yaml([_component(_read(cloud, document))])}"
    file = folder / FILE
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(WRITTEN):
        raise JobError(f"--into {folder}: its {FILE} was not written by this command: name a folder of its own.")
    if not folder.parent.is_dir():
        raise JobError(f"--into {folder}: there is no folder {folder.parent}: run this where k8s/ is, or name another.")
    folder.mkdir(exist_ok=True)
    with half_file(str(file)) as half:
        Path(half).write_text(component, encoding="utf-8")
    return file


def _component(outputs: dict[str, Any]) -> dict[str, Any]:
    run, watch = (outputs[f"{who}_service_account_annotation"] for who in ("run", "watch"))
    uris = {"data": {"source": outputs["data_uri"]}, "store": outputs["store_uri"]}
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [
            {"name": "thaw-job", "behavior": "merge", "literals": [f"uris.yaml={json.dumps(uris)}"]},
            {"name": "thaw-queue", "literals": [f"queue={outputs['queue']}"]},
        ],
        "images": [{"name": "thaw", "newName": outputs["image_repository"]}],
        "patches": [
            _annotated("thaw-run", run),
            _annotated("thaw-watch", watch),
        ],
    }


def _annotated(service_account: str, annotations: dict[str, str]) -> dict[str, Any]:
    change = {"op": "add", "path": "/metadata/annotations", "value": annotations}
    return {"target": {"kind": "ServiceAccount", "name": service_account}, "patch": json.dumps([change])}


def _read(cloud: str, document: bytes) -> dict[str, Any]:
    """The values of the outputs, each of which is what this cloud has. Raises JobError."""
    try:
        outputs = json.loads(document)
    except (ValueError, RecursionError) as error:
        hint = "nothing" if not document.strip() else "no JSON"
        raise JobError(f"standard input has {hint}: pipe `terraform output -json` into this.") from error
    if not isinstance(outputs, dict):
        raise JobError(f"standard input: `terraform output -json` is an object, got {type(outputs).__name__}.")
    missing = [name for name in OUTPUTS[cloud] if name not in outputs]
    if missing:
        raise JobError(
            f"Terraform has no output {', '.join(missing)}: have those of terraform/examples/{cloud}/outputs.tf, and "
            "run `terraform apply` to its end."
        )
    return {name: _value(name, outputs[name], shape) for name, shape in OUTPUTS[cloud].items()}


def _value(name: str, output: Any, shape: Shape) -> Any:
    value = output.get("value") if isinstance(output, dict) else None
    text, expected = value, shape.example
    if shape.annotation is not None:
        expected = f"{{{shape.annotation}: {shape.example}}}"
        text = value.get(shape.annotation) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(text, str) or not re.fullmatch(shape.pattern, text):
        raise JobError(f"Terraform's output {name} is not {expected}: got {str(value)[:100]!r}.")
    return value
