"""Executors: they do the work of a run in this process or in Ray's. The work itself is written once, elsewhere."""

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
    """Does the heavy work of a run; entered and left by `executor_of`. Methods that need Ray start it."""

    featurizers: int
    """The most networks that compute features side by side."""
    scraped: float
    """Seconds that a run waits at its end for Prometheus to read its metrics; 0 where these outlive the run."""

    @property
    def metrics(self) -> WorkerMetrics: ...

    def map(self, function: Callable[[T], R], items: Iterable[T], doing: str, *, emit: Emit) -> Iterator[R]:
        """The result of the function for each item, in any order. `doing` names the work in an error."""

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        """Computes and stores features, chunk by chunk. Raises Overflow and what reading the source raises."""

    def train(self, recipe: Recipe, interrupts: Interrupts, emit: Emit) -> None:
        """Trains from the latest checkpoint on, and writes the results to the store. Raises what the workers
        raised, and Interrupted once a checkpoint is kept.
        """

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """The result of the function, called in a process where a network may run. Raises what the function raises."""


@contextmanager
def executor_of(job: Job, debug: bool, emit: Emit) -> Iterator[tuple[Job, Executor]]:
    """The executor that the job asks for, and the job with its `auto` settings resolved.

    Raises JobError where this machine can't do what the job asks for, and ClusterError.
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
    """The job with its `auto` settings resolved. Raises JobError, and ClusterError where a cluster has to be asked."""
    if is_local(job):
        return with_workers(job, "local", 1)
    if job.scaling.workers != "auto":
        return with_workers(job, "ray", job.scaling.workers)
    if is_here():
        return with_workers(job, "ray", max(1, gpus_here()) if job.scaling.gpu else 1)
    from job.executors.ray.cluster import placed_there

    return placed_there(job, debug, emit)
