"""Whether a run is embedded in its process or on Ray, and with how many workers, where the job file leaves it open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from job.config import Job, WorkerRange
from job.errors import JobError


def is_local(job: Job) -> bool:
    """Whether the job's run is embedded in the process of `thaw run`. Raises JobError."""
    scaling = job.scaling
    if os.environ.get("THAW_RAYJOB"):
        check_rayjob(job)
        return False
    if scaling.executor != "auto":
        return scaling.executor == "local"
    if os.environ.get("RAY_ADDRESS"):
        return False
    if scaling.workers == "auto":
        return not scaling.gpu or gpus_here() <= 1
    return scaling.max_workers == 1


def check_rayjob(job: Job) -> None:
    """Raises JobError where a RayJob can't run this job, since it wants to be embedded."""
    if job.scaling.executor == "local":
        raise JobError("scaling.executor: local: a RayJob runs on Ray: write auto or ray, or use `thaw run`.")


def is_here() -> bool:
    """Whether no other machine than this one works on runs."""
    return not os.environ.get("RAY_ADDRESS")


def with_workers(job: Job, executor: str, workers: int | WorkerRange, cpus: int | None = None) -> Job:
    """The job with this in place of `auto`; `cpus` where it does not say how many cores a worker has."""
    found: dict[str, Any] = {"executor": executor, "workers": workers}
    if job.scaling.cpus_per_worker is None and cpus is not None:
        found["cpus_per_worker"] = cpus
    return job.model_copy(update={"scaling": job.scaling.model_copy(update=found)})


def gpus_here() -> int:
    """GPUs that a process of this machine may use, as far as that is known without TensorFlow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1", "none", "NoDevFiles")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def worker_cpus(job: Job) -> int:
    """Cores of each training worker: as asked for, an equal share of this machine, or 1 on a cluster."""
    if job.scaling.cpus_per_worker:
        return job.scaling.cpus_per_worker
    here = job.scaling.executor == "local" or is_here()
    return max(1, (os.cpu_count() or 1) // job.scaling.max_workers) if here else 1
