"""An overlay: the Kubernetes objects that a RayJob is filled into, as kustomize builds them.

`k8s/` is where they are written; it comes with the package.
"""

from __future__ import annotations

import os
import re
import subprocess
from importlib.resources import as_file, files
from pathlib import Path

import yaml

from job.deploy.api import Object
from job.errors import ClusterError, JobError
from job.wording import sentence

SHIPPED = ("local", "aws", "gcp")
TIMEOUT = 120.0
"""Seconds; an overlay of the user's own may fetch some of its parts."""


def read_overlay(name: str) -> list[Object]:
    """The objects of a shipped overlay (`local`, `aws`, `gcp`), of a folder with a kustomization, or of a built file.

    Raises JobError, and ClusterError where kubectl is missing.
    """
    path = Path(name)
    if name in SHIPPED:
        with as_file(files("job.deploy").joinpath("k8s")) as root:
            text = _build(root / "overlays" / name)
    elif path.is_dir():
        text = _build(path)
    elif path.is_file():
        text = _read(path)
    else:
        raise JobError(
            f"--overlay {name}: there is no such overlay: write {', '.join(SHIPPED)}, a folder with a "
            "kustomization.yaml, or a file with what kustomize built."
        )
    return _objects(text, name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise JobError(f"--overlay {path}: can't be read: {reason}.") from error


def _build(folder: Path) -> str:
    command = ["kubectl", "kustomize", str(folder)]
    alone = {**os.environ, "KUBECONFIG": os.devnull}  # it would ask a cluster for its version, which may be away
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=alone)
    except FileNotFoundError as error:
        raise ClusterError(
            f"kubectl is not installed, which builds the overlay {folder}: install it, or give --overlay a file "
            "that was built elsewhere (kubectl kustomize FOLDER > FILE)."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{' '.join(command)}` did not end within {TIMEOUT:g} s.") from error
    if done.returncode:
        complaints = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith("#")]
        first = complaints[0].removeprefix("error: ") if complaints else f"exit code {done.returncode}"
        logged = re.search(r'err="(.*)"$', first)
        first = logged[1] if logged else first
        raise JobError(f"--overlay {folder}: kustomize can't build it: {sentence(first)}")
    return done.stdout


def _objects(text: str, name: str) -> list[Object]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise JobError(f"--overlay {name}: not valid YAML: {' '.join(str(error).split())}.") from error
    objects = []
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
            raise JobError(f"--overlay {name}: a Kubernetes object has kind and metadata, got {str(document)[:80]!r}.")
        objects.append(document)
    return objects
