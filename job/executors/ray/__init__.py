"""The Ray executor: it works in Ray's processes, on this machine or on the cluster that RAY_ADDRESS names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from job.config import Job
from job.errors import ThawError
from job.executors.placement import head_on_cpus, is_here, without_gpus, worker_cpus
from job.executors.ray.cluster import extract_processes, ray_cluster
from job.features.extraction import Extracted, Extraction
from job.run.events import Emit
from job.run.instruments import WorkerMetrics
from job.run.interrupts import Interrupts
from job.run.state import has_trained_head
from job.storage import open_store
from job.training.context import Recipe

T = TypeVar("T")
R = TypeVar("R")
SCRAPED = 30.0
"""Seconds in which Ray exports new metrics (up to 10), and Prometheus reads them (15)."""


class RayExecutor:
    """Starts Ray, or connects to it, at the first call that needs it."""

    def __init__(self, job: Job, debug: bool, emit: Emit) -> None:
        self._job, self._debug, self._emit = job, debug, emit
        self.featurizers = extract_processes(job)[1]
        self.scraped = 0.0 if is_here() else SCRAPED  # KubeRay deletes a run's pods at once
        self._stack, self._connected = ExitStack(), False

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    @property
    def metrics(self) -> WorkerMetrics:
        self._connect()
        from job.executors.ray.ray_metrics import RayMetrics

        return RayMetrics()

    def map(self, function: Callable[[T], R], items: Iterable[T], doing: str, *, emit: Emit) -> Iterator[R]:
        self._connect()
        from job.executors.ray.tasks import map_unordered

        return map_unordered(function, list(items), doing, emit=emit)

    def extract(self, work: Extraction, emit: Emit) -> Iterator[Extracted]:
        self._connect()
        from job.executors.ray.ray_data import extract

        return extract(work, emit)

    def train(self, recipe: Recipe, interrupts: Interrupts, emit: Emit) -> None:
        self._connect()
        from job.executors.ray.ray_train import run_training

        for part in _parts(recipe):
            run_training(part, interrupts, emit)
            if interrupts.asked and not part.last:
                raise interrupts.interrupted("the head is trained, and kept")

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """The result of the function. On a cluster, it is called on a worker's node, since the head has no GPU."""
        if is_here():
            return function(*args)
        self._connect()
        import ray

        task = ray.remote(function).options(num_cpus=worker_cpus(self._job), num_gpus=int(self._job.scaling.gpu))
        try:
            return ray.get(task.remote(*args))
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, ThawError) else error from None

    def _connect(self) -> None:
        if not self._connected:
            self._stack.enter_context(ray_cluster(self._job, self._debug, self._emit))
            self._connected = True


def _parts(recipe: Recipe) -> Iterator[Recipe]:
    """What groups of workers train, one after another: without GPUs, the head comes first and alone."""
    job = recipe.job
    if not head_on_cpus(job):
        yield recipe
    elif recipe.until == "head":
        yield replace(recipe, job=without_gpus(job))
    else:
        settings = job.phases.fine_tune
        anyhow = settings is not None and settings.allow_unconverged_head
        if not has_trained_head(open_store(job.store, job.storage), recipe.run, unconverged=anyhow):
            yield replace(recipe, job=without_gpus(job), until="head", last=False)
        yield recipe
