"""Whether a job and the pods of an overlay go together."""

from __future__ import annotations

from typing import Any

from job.config import Job
from job.errors import JobError
from job.executors.placement import check_rayjob

GPU = "nvidia.com/gpu"


def check_fit(job: Job, rayjob: dict[str, Any], where: str) -> None:
    """Raises JobError where the run would wait for ever, or leave idle what is paid for."""
    check_rayjob(job)
    cluster = rayjob["spec"]["rayClusterSpec"]
    groups = cluster.get("workerGroupSpecs", [])
    if not groups:
        raise JobError(f"--overlay {where}: its RayJob has no worker group.")
    _check_gpus(job, groups, where)
    for group in groups:
        _check_cpus(job, group, where)
    for kind, uri in (("data.source", job.data.source), ("store", job.store)):
        for template in (cluster["headGroupSpec"]["template"], *(group["template"] for group in groups)):
            if uri.startswith("file://") and not _has_volume(template):
                raise JobError(
                    f"{kind}: {uri} is a folder of one machine, and not every pod of --overlay {where} has a "
                    "PersistentVolumeClaim: write s3:// or gs://, or add the component k8s/components/volume."
                )


def _check_gpus(job: Job, groups: list[dict[str, Any]], where: str) -> None:
    with_gpu = [group["groupName"] for group in groups if GPU in _resources(group).get("limits", {})]
    if job.scaling.gpu and not with_gpu:
        raise JobError(
            f"scaling.gpu: true, but no worker of --overlay {where} has a GPU ({GPU} in its limits): choose an overlay "
            "with the component k8s/components/gpu, or set scaling.gpu=false."
        )
    if with_gpu and not job.scaling.gpu:
        raise JobError(
            f"scaling.gpu: false, but the workers of --overlay {where} have GPUs (group {', '.join(with_gpu)}), which "
            "would be paid for and idle: set scaling.gpu=true, or choose an overlay without them."
        )


def _check_cpus(job: Job, group: dict[str, Any], where: str) -> None:
    cpus, resources = job.scaling.cpus_per_worker, _resources(group)
    given = resources.get("requests", {}).get("cpu", resources.get("limits", {}).get("cpu"))
    if cpus is not None and given is not None and cpus > cores(given):
        raise JobError(
            f"scaling.cpus_per_worker: {cpus} is more than a worker of --overlay {where} has (group "
            f"{group['groupName']} requests {given}): lower it, or raise the overlay's request."
        )


def cores(quantity: str | int | float) -> float:
    """A Kubernetes quantity (`2`, `500m`) as a number. Raises JobError."""
    from kubernetes.utils import parse_quantity

    try:
        return float(parse_quantity(quantity))
    except ValueError as error:
        raise JobError(
            f"the overlay's CPU request {quantity!r} is no Kubernetes quantity: write `4` or `500m`."
        ) from error


def _resources(group: dict[str, Any]) -> dict[str, Any]:
    resources: dict[str, Any] = group["template"]["spec"]["containers"][0].get("resources", {})
    return resources


def _has_volume(template: dict[str, Any]) -> bool:
    return any("persistentVolumeClaim" in volume for volume in template["spec"].get("volumes", []))
