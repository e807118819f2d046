"""Fills a job into the RayJob that an overlay ships: names, labels, the job file, worker counts and the image.

What a pod is made of is the overlay's alone.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from job.config import Job, WorkerRange
from job.config.jobfile import dump_job
from job.deploy.annotations import RUN, STORE
from job.deploy.api import Object
from job.deploy.fitting import check_fit
from job.deploy.naming import Naming
from job.errors import JobError
from job.executors.placement import with_workers

NAMESPACE = "thaw"
"""Where nobody says another one."""
INSTANCE = "app.kubernetes.io/instance"
"""The label that a RayJob's ConfigMap and pods have in common."""
JOB = "thaw/job"
"""The label that all RayJobs of a job have in common, whatever their data."""
LONGEST = 47
"""Characters of a RayJob's name: KubeRay makes longer ones of it."""
FILE = "job.yaml"


class Filled(NamedTuple):
    configmap: Object
    """The job file."""
    rayjob: Object


def fitting_rayjob(job: Job, overlay: list[Object], where: str) -> Object:
    """The overlay's RayJob. Raises JobError where this job can't be filled into it; `where` names the overlay."""
    rayjobs = [document for document in overlay if document.get("kind") == "RayJob"]
    if len(rayjobs) != 1:
        raise JobError(f"--overlay {where}: exactly one RayJob is needed, got {len(rayjobs)}.")
    (rayjob,) = rayjobs
    try:
        complete = all(template["spec"]["containers"] for template in pod_templates(rayjob))
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise JobError(f"--overlay {where}: a pod template of its RayJob has no containers.")
    if _job_volume(rayjob) is None:
        raise JobError(
            f"--overlay {where}: the head's pod has no volume `job` with a ConfigMap, where the job file goes."
        )
    check_fit(job, rayjob, where)
    return rayjob


def fill(
    job: Job, naming: Naming, shipped: Object, *, image: str | None = None, namespace: str | None = None
) -> Filled:
    """What this job is run by; `shipped` is the overlay's RayJob."""
    rayjob = copy.deepcopy(shipped)
    if job.scaling.workers == "auto":
        job = with_workers(job, "ray", _workers(rayjob["spec"]["rayClusterSpec"]))
    name, metadata = kube_name(naming.id), rayjob["metadata"]
    labels = {**metadata.get("labels", {}), INSTANCE: name, JOB: job.name}
    metadata |= {"name": name, "namespace": namespace_of(shipped, namespace), "labels": labels}
    metadata["annotations"] = {**metadata.get("annotations", {}), STORE: job.store}
    if naming.run is not None:
        metadata["annotations"][RUN] = naming.run
    placeholder = _job_volume(rayjob)
    for template in pod_templates(rayjob):
        template.setdefault("metadata", {}).setdefault("labels", {})[INSTANCE] = name
        _point(template, placeholder, name)
        if image is not None:
            _replace_image(template, image)
    _scale(rayjob["spec"]["rayClusterSpec"], job.scaling.max_workers)
    own = {"name": name, "namespace": metadata["namespace"], "labels": _ours(labels)}
    configmap = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": {FILE: dump_job(job)}}
    return Filled(configmap, rayjob)


def namespace_of(shipped: Object, asked: str | None) -> str:
    """The namespace that is `asked` for, or else the overlay's."""
    return str(asked or shipped["metadata"].get("namespace") or NAMESPACE)


def images(rayjob: Object) -> str:
    """The images of all of its containers, in words."""
    containers = (container for template in pod_templates(rayjob) for container in template["spec"]["containers"])
    return ", ".join(sorted({container["image"] for container in containers}))


def kube_name(id: str) -> str:
    """A run's id as the name of a RayJob: a DNS label that begins with a letter, of at most 47 characters.

    Of `<name>-<12 hex digits>[-<number>]` only the name is shortened: what tells runs apart stays.
    """
    match = re.fullmatch(r"(.+?)(-[0-9a-f]{12}(?:-\d+)?)", id)
    name, digest = (match[1], match[2]) if match else (id, "")
    if not name[0].isalpha():
        name = f"thaw-{name}"
    return name[: LONGEST - len(digest)].rstrip("-") + digest


def pod_templates(rayjob: Object) -> Iterator[Object]:
    """The head's, the worker groups', and the submitter's, where there is one."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    yield cluster["headGroupSpec"]["template"]
    for group in cluster.get("workerGroupSpecs", []):
        yield group["template"]
    if "submitterPodTemplate" in rayjob["spec"]:
        yield rayjob["spec"]["submitterPodTemplate"]


def as_yaml(objects: list[Object]) -> str:
    """One document for each, in their own order."""
    return yaml.dump_all(objects, Dumper=_Blocks, sort_keys=False, allow_unicode=True, width=120)


def _job_volume(rayjob: Object) -> str | None:
    """The ConfigMap that the overlay itself puts where the head reads its job file."""
    for volume in rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].get("volumes", []):
        if volume["name"] == "job" and "configMap" in volume:
            return str(volume["configMap"]["name"])
    return None


def _point(template: Object, placeholder: str | None, name: str) -> None:
    for volume in template["spec"].get("volumes", []):
        if volume.get("configMap", {}).get("name") == placeholder:
            volume["configMap"]["name"] = name


def _replace_image(template: Object, image: str) -> None:
    for kind in ("initContainers", "containers"):
        for container in template["spec"].get(kind, []):
            container["image"] = image


def _workers(cluster: Object) -> int | WorkerRange:
    """`auto` is a worker for each pod of the overlay's groups: as many as there are, where they come and go."""
    groups = cluster["workerGroupSpecs"]
    if not cluster.get("enableInTreeAutoscaling"):
        return max(1, sum(group.get("replicas", 1) for group in groups))
    most = max(1, *(group.get("maxReplicas", group.get("replicas", 1)) for group in groups))
    return WorkerRange(min=1, max=most)


def _scale(cluster: Object, workers: int) -> None:
    """Ray's autoscaler makes as many workers as the job asks for; where there is none, the first group has them all."""
    for group in cluster.get("workerGroupSpecs", []):
        group["maxReplicas"] = workers
        for floor in ("minReplicas", "replicas"):
            group[floor] = min(group.get(floor, 0), workers)
    if not cluster.get("enableInTreeAutoscaling"):
        first, *others = cluster["workerGroupSpecs"]
        for group, count in ((first, workers), *((other, 0) for other in others)):
            group |= {"minReplicas": count, "replicas": count}


def _ours(labels: dict[str, str]) -> dict[str, str]:
    """Without those that mean something to others, as Kueue's do."""
    return {name: value for name, value in labels.items() if name.startswith("app.kubernetes.io/")}


class _Blocks(yaml.SafeDumper):
    """Texts of several lines as such, and no references from one place to another."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Blocks.add_representer(str, _text)
