"""What `--overlay` takes, as small as can be."""

from __future__ import annotations

from pathlib import Path

import yaml


def built_overlay(folder: Path) -> str:
    """A file in `folder`: a built overlay, with what is filled in and little else."""

    def template(name: str) -> dict[str, object]:
        volumes = [
            {"name": "job", "configMap": {"name": "thaw-job-abc"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ]
        return {"spec": {"containers": [{"name": name, "image": "thaw"}], "volumes": volumes}}

    group = {"groupName": "workers", "maxReplicas": 1, "template": template("ray-worker")}
    cluster = {"enableInTreeAutoscaling": True, "headGroupSpec": {"template": template("ray-head")}}
    rayjob = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": "thaw", "namespace": "thaw"},
        "spec": {"rayClusterSpec": {**cluster, "workerGroupSpecs": [group]}},
    }
    path = folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(rayjob))
    return str(path)
