"""Builds what k8s/ has, as a platform team would."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support.tools import need

Labels = dict[str, str]

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
BUILT_WITH = {"spot": ["gpu"], "keda": ["watch"]}
"""What a component is listed after, in the order in which they are."""
TOGETHER = {"kueue": {"spot": "kueue/spot"}, "tensorboard": {"volume": "tensorboard/volume"}}
"""What is listed, too, where there is a certain other component."""


WATCH = (K8S.parent / "examples/arrival/watch.yaml").read_text()
GIVEN = {"watch": {"name": "thaw-watch", "literals": [f"watch.yaml={WATCH}", "overlay.yaml={}"]}}
"""The ConfigMap that a component wants from the overlay that has it."""


def build(folder: Path) -> str:
    """YAML documents."""
    need("kubectl")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build_with(folder: Path, base: str, components: list[str], **more: Any) -> str:
    """What an overlay of its own, in `folder`, makes of `base` (`base`, or `overlays/aws`)."""
    here = os.path.relpath(K8S, folder.resolve())
    parts: dict[str, Any] = {"resources": [f"{here}/{base}"]}
    parts["components"] = [f"{here}/components/{name}" for name in components]
    parts["configMapGenerator"] = [GIVEN[name] for name in components if name in GIVEN]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": "thaw", **parts, **more}))
    return build(folder)


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of_kind(text: str, kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(text) if document["kind"] == kind]


def templates(rayjob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pod templates of a RayJob, by `submitter`, `head` or the group's name."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return {"submitter": rayjob["spec"]["submitterPodTemplate"], "head": cluster["headGroupSpec"]["template"], **groups}


def selects(selector: dict[str, Any], labels: Labels) -> bool:
    """Whether a label selector is for what has these labels."""
    expressions = selector.get("matchExpressions", [])
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        (labels.get(rule["key"]) in rule["values"]) == (rule["operator"] == "In") for rule in expressions
    )
