"""Whether a run is embedded in its process or on Ray, and with how many workers, where the job file leaves it open."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from job.config import Job, WorkerRange
from job.errors import JobError

NO_GPU = ("", "none", "NoDevFiles")
CGROUPS = Path("/sys/fs/cgroup")


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
    named = named_gpus()
    return len(list(Path("/dev").glob("nvidia[0-9]*"))) if named is None else len(named)


def named_gpus() -> list[str] | None:
    """Those of CUDA_VISIBLE_DEVICES, of which CUDA takes what is before the first entry that is none; None where it is
    not set.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    entries = [entry.strip() for entry in visible.split(",")]
    return list(takewhile(lambda entry: entry not in NO_GPU and not entry.startswith("-"), entries))


def cpus_here() -> int:
    """Cores that this process may use: of the machine, those it is bound to, as far as its container's limit goes."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, _cpu_limit(CGROUPS))))


def _cpu_limit(root: Path) -> float:
    """What the container's control group allows (Kubernetes' limits.cpu), as a number of cores."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (root / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):  # version 1
        quota, period = ((root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf


def worker_cpus(job: Job) -> int:
    """Cores of each training worker: as asked for, an equal share of this machine, or 1 on a cluster."""
    if job.scaling.cpus_per_worker:
        return job.scaling.cpus_per_worker
    here = job.scaling.executor == "local" or is_here()
    return max(1, cpus_here() // job.scaling.max_workers) if here else 1
