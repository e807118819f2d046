"""Where the work of a run is done: in this process, or in Ray's. What is done is written once, elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from job.config import Job
from job.executors.placement import gpus_here, is_here, is_local, with_workers
from job.features.extraction import Extracted, Extraction
from job.run.events import Emit
from job.run.instruments import WorkerMetrics
from job.run.interrupts import Interrupts
from job.training.context import Recipe

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Does the heavy work of a run; entered and left by `executor_of`. What needs Ray starts it when it is asked."""

    featurizers: int
    """How many networks compute features side by side, at most."""
    scraped: float
    """Seconds that a run which ends should wait for Prometheus; 0 where what it reads does not end with the run."""

    @property
    def metrics(self) -> WorkerMetrics: ...

    def map(self, function: Callable[[T], R], items: Iterable[T], doing: str, emit: Emit) -> Iterator[R]:
        """What becomes of each item, in any order. `doing` is what then failed, for the message."""

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        """Computes and stores features, chunk by chunk. Raises Overflow and what reading the source raises."""

    def train(self, recipe: Recipe, interrupts: Interrupts, emit: Emit) -> None:
        """Trains from the latest checkpoint on; what it comes to is in the store. Raises what the workers raised, and
        Interrupted once a checkpoint is kept.
        """

    def call(self, function: Callable[..., R], *arguments: Any) -> R:
        """What the function returns, or raises, where a network may run."""


@contextmanager
def executor_of(job: Job, debug: bool, emit: Emit) -> Iterator[tuple[Job, Executor]]:
    """The executor that the job asks for, and the job with what `auto` means for it.

    Raises JobError where what the job asks for can't be had here, and ClusterError.
    """
    job = placed(job, debug, emit)
    if job.scaling.executor == "local":
        from job.executors.local import LocalExecutor

        with LocalExecutor(job) as local:
            yield job, local
    else:
        from job.executors.ray import RayExecutor

        with RayExecutor(job, debug, emit) as executor:
            yield job, executor


def placed(job: Job, debug: bool, emit: Emit) -> Job:
    """The job with what `auto` means for it here. Raises JobError, and ClusterError where a cluster has to be asked."""
    if is_local(job):
        return with_workers(job, "local", 1)
    if job.scaling.workers != "auto":
        return with_workers(job, "ray", job.scaling.workers)
    if is_here():
        return with_workers(job, "ray", max(1, gpus_here()) if job.scaling.gpu else 1)
    from job.executors.ray.cluster import placed_there

    return placed_there(job, debug, emit)
