"""Decides whether a run is embedded in its process or uses Ray, and the number of its workers, where these are
`auto`.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from job.config import Job, WorkerRange
from job.config.own_rayjob import own_rayjob
from job.errors import JobError

NO_GPU = ("", "none", "NoDevFiles")
CGROUPS = Path("/sys/fs/cgroup")


def is_local(job: Job) -> bool:
    """Whether the job's run is embedded in the process of `thaw run`. Raises JobError."""
    scaling = job.scaling
    if own_rayjob():
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
    """Raises JobError where a RayJob can't run this job, since its executor is `local`."""
    if job.scaling.executor == "local":
        raise JobError("scaling.executor: local: a RayJob runs on Ray: write auto or ray, or use `thaw run`.")


def is_here() -> bool:
    """Whether this is the only machine that works on runs."""
    return not os.environ.get("RAY_ADDRESS")


def with_workers(job: Job, executor: str, workers: int | WorkerRange, *, cpus: int | None = None) -> Job:
    """The job with this executor and number of workers; and with `cpus` cores per worker where it does not set them."""
    settings: dict[str, Any] = {"executor": executor, "workers": workers}
    if job.scaling.cpus_per_worker is None and cpus is not None:
        settings["cpus_per_worker"] = cpus
    return job.model_copy(update={"scaling": job.scaling.model_copy(update=settings)})


def head_on_cpus(job: Job) -> bool:
    """Whether workers without GPUs train the head of a placed job, and those with GPUs start after it."""
    scaling = job.scaling
    return scaling.gpu and scaling.executor == "ray" and scaling.head_on == "cpu"


def without_gpus(job: Job) -> Job:
    """The job, for workers that have no GPUs."""
    return job.model_copy(update={"scaling": job.scaling.model_copy(update={"gpu": False})})


def gpus_here() -> int:
    """The number of GPUs that a process of this machine may use, as far as that is known without TensorFlow."""
    named = named_gpus()
    return len(list(Path("/dev").glob("nvidia[0-9]*"))) if named is None else len(named)


def named_gpus() -> list[str] | None:
    """The GPUs in CUDA_VISIBLE_DEVICES, up to the first invalid entry, as CUDA reads it; None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    entries = [entry.strip() for entry in visible.split(",")]
    return list(takewhile(lambda entry: entry not in NO_GPU and not entry.startswith("-"), entries))


def cpus_here() -> int:
    """The number of cores that this process may use: those it is bound to, limited by its container."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, _cpu_limit(CGROUPS))))


def _cpu_limit(root: Path) -> float:
    """The limit of the container's control group (Kubernetes' limits.cpu), in cores."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (root / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 1
        quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf


def worker_cpus(job: Job) -> int:
    """The cores of each training worker: as the job says, else an equal share of this machine, or 1 on a cluster."""
    if job.scaling.cpus_per_worker:
        return job.scaling.cpus_per_worker
    here = job.scaling.executor == "local" or is_here()
    return max(1, cpus_here() // job.scaling.max_workers) if here else 1
