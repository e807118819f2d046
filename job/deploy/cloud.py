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
URI = r"{}://[a-z0-9][a-z0-9._-]{{1,220}}[a-z0-9]/([A-Za-z0-9._=-]+/)*"
IMAGE = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"


class Cloud(NamedTuple):
    """What an output must look like, as a pattern for all of it, and by example."""

    scheme: str
    queue: str
    queue_example: str
    annotation: str
    identity: str
    identity_example: str


CLOUDS = {
    "aws": Cloud(
        scheme="s3",
        queue=r"https://[a-z0-9.-]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}",
        queue_example="https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        annotation="eks.amazonaws.com/role-arn",
        identity=r"arn:[a-z-]+:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,128}",
        identity_example="arn:aws:iam::ACCOUNT:role/NAME",
    ),
    "gcp": Cloud(
        scheme="gs",
        queue=r"projects/[a-z0-9.:-]{6,64}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}",
        queue_example="projects/PROJECT/subscriptions/NAME",
        annotation="iam.gke.io/gcp-service-account",
        identity=r"[a-z0-9-]{6,30}@[a-z0-9.-]+\.iam\.gserviceaccount\.com",
        identity_example="NAME@PROJECT.iam.gserviceaccount.com",
    ),
}


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
            _patch("ServiceAccount", "thaw-run", "/metadata/annotations", run),
            _patch("ServiceAccount", "thaw-watch", "/metadata/annotations", watch),
        ],
    }


def _patch(kind: str, name: str, path: str, value: Any) -> dict[str, Any]:
    change = {"op": "add", "path": path, "value": value}
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps([change])}


def _read(cloud: str, document: bytes) -> dict[str, Any]:
    """The values of the outputs, each of which is what this cloud has. Raises JobError."""
    try:
        outputs = json.loads(document)
    except (ValueError, RecursionError) as error:
        hint = "nothing" if not document.strip() else "no JSON"
        raise JobError(f"standard input has {hint}: pipe `terraform output -json` into this.") from error
    if not isinstance(outputs, dict):
        raise JobError(f"standard input: `terraform output -json` is an object, got {type(outputs).__name__}.")
    expected = _expected(CLOUDS[cloud])
    missing = [name for name in expected if name not in outputs]
    if missing:
        raise JobError(
            f"Terraform has no output {', '.join(missing)}: have those of terraform/examples/{cloud}/outputs.tf, and "
            "run `terraform apply` to its end."
        )
    return {name: _value(name, outputs[name], *shape) for name, shape in expected.items()}


def _expected(cloud: Cloud) -> dict[str, tuple[str, str, str | None]]:
    """What is expected of each output: the pattern, an example, and the annotation whose value that is."""
    uri, example = URI.format(cloud.scheme), f"{cloud.scheme}://BUCKET/FOLDER/"
    identity = (cloud.identity, cloud.identity_example, cloud.annotation)
    return {
        "data_uri": (uri, example, None),
        "store_uri": (uri, example, None),
        "queue": (cloud.queue, cloud.queue_example, None),
        "run_service_account_annotation": identity,
        "watch_service_account_annotation": identity,
        "image_repository": (IMAGE, "REGISTRY/NAME, without a tag", None),
    }


def _value(name: str, output: Any, pattern: str, example: str, annotation: str | None) -> Any:
    value = output.get("value") if isinstance(output, dict) else None
    text, wanted = value, example
    if annotation is not None:
        wanted = f"{{{annotation}: {example}}}"
        text = value.get(annotation) if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise JobError(f"Terraform's output {name} is not {wanted}: got {str(value)[:100]!r}.")
    return value
