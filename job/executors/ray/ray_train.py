"""Runs Ray Train, and restarts it after failures that a restart may cure."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from job.config import Job
from job.config.running import Recovery
from job.errors import ClusterError, ThawError
from job.executors.placement import worker_cpus
from job.executors.ray.actors import cluster_error, one_line
from job.executors.ray.ledger import PAUSES, beside_driver, make_ledger
from job.executors.ray.listener import Listener
from job.executors.ray.train_worker import WorkerConfig, train_worker
from job.run.events import Announced, Emit
from job.run.interrupts import Interrupts
from job.storage.scratch import scratch
from job.training.context import Recipe

RESIZE = 10.0
"""Seconds between checks for room for more workers."""
HEARING = 15
"""Seconds in which training workers notice that they are to stop."""


def run_training(recipe: Recipe, interrupts: Interrupts, emit: Emit) -> None:
    """Trains until `recipe.until`, and writes the results to the store. Raises what the workers raised.

    Ray Train starts the workers, and replaces lost ones. Checkpoints are kept in the run's state alone: Ray knows of
    none, and its own storage is discarded.
    """
    from ray.util.queue import Queue

    job = recipe.job
    events, ledger = Queue(actor_options=beside_driver()), make_ledger()
    listener = Listener(events, emit, ledger, workers=_group_in_words(job), break_off=interrupts.break_off)
    config = WorkerConfig(recipe=recipe, cpus=worker_cpus(job), events=events, ledger=ledger)
    emit(Announced(f"starting {_group_in_words(job)}"))
    try:
        with interrupts.passed_to(lambda over: _stop(ledger, interrupts, over)):
            _fit(config, job.recovery)
    except ThawError:
        raise
    except KeyboardInterrupt:  # of the listener, where that has an error
        if listener.error:
            raise listener.error from None
        raise
    except Exception as error:
        raise listener.stopped() or _first_cause(ledger, error) from error
    finally:
        listener.stopped()
    if listener.error:
        raise listener.error
    if not listener.trained and interrupts.asked:
        raise interrupts.interrupted("a checkpoint of this step is kept")
    if not listener.trained:
        raise ClusterError("The training workers ended without a result. Run again with --debug to see their logs.")


def _trainer(config: WorkerConfig, folder: str, *, failures: int, preemptions: int) -> Any:
    """Ray's trainer, which bears with so many failures and preemptions; -1: with any number."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from job.executors.ray.tf_config import GroupConfig

    job = config["recipe"].job
    return DataParallelTrainer(
        train_worker,  # type: ignore[arg-type]  # Ray knows a dict where this knows its keys
        train_loop_config=dict(config),
        backend_config=GroupConfig(),
        scaling_config=ScalingConfig(
            num_workers=_workers(job),
            use_gpu=job.scaling.gpu,
            resources_per_worker=_resources(job),
            elastic_resize_monitor_interval_s=RESIZE,  # type: ignore[call-arg]
        ),
        run_config=RunConfig(
            name=config["recipe"].run,
            storage_path=folder,
            failure_config=FailureConfig(
                max_failures=failures,
                max_preemption_failures=preemptions,  # type: ignore[call-arg]
                controller_failure_limit=0,
            ),
            callbacks=[_deaths(config["ledger"])],
        ),
    )


def _fit(config: WorkerConfig, recovery: Recovery) -> None:
    """Trains, and starts Ray Train again where that can help: without limit while it finds no room for the workers;
    after preemptions; and after failures in the start of workers, which count as failures. An error that the workers'
    function raised is not tried again.
    """
    import ray
    from ray.train import ControllerError

    ledger, limit = config["ledger"], recovery.max_preemption_failures
    failures = preemptions = 0
    while not ray.get(ledger.is_over.remote()):
        left = max(0, recovery.max_failures - ray.get(ledger.failures.remote()))
        try:
            with scratch() as folder:
                borne = -1 if limit is None else limit - preemptions
                _trainer(config, folder, failures=left, preemptions=borne).fit()
        except ControllerError as error:
            cause = error.controller_failure
            if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
                continue
            failures += 1
            ray.get(ledger.failed.remote(one_line(cause)))
            if failures > recovery.max_failures or isinstance(cause, ray.exceptions.RayTaskError):
                raise
            time.sleep(PAUSES[min(failures, len(PAUSES)) - 1])
        else:
            preemptions += 1
            if limit is not None and preemptions > limit and not ray.get(ledger.is_over.remote()):
                raise ClusterError(
                    f"Nodes of this run were preempted {preemptions} times, and recovery.max_preemption_failures is "
                    f"{limit}. A checkpoint is kept: running again goes on from it."
                )


def _stop(ledger: Any, interrupts: Interrupts, over: threading.Event) -> None:
    """Asks the workers to save and to end. Where none of them notices, none is training yet: breaks off the wait."""
    import ray

    with suppress(ray.exceptions.RayError):
        ray.get(ledger.stop.remote())
        for _ in range(HEARING):
            if ray.get(ledger.knows_stop.remote()) or over.wait(1):
                return
    interrupts.break_off()


def _workers(job: Job) -> Any:
    """The number of workers, or their range (Any, since Ray's type hints are those of its older Train)."""
    scaling = job.scaling
    return (scaling.min_workers, scaling.max_workers) if scaling.elastic else scaling.max_workers


def _resources(job: Job) -> dict[str, float]:
    return {"CPU": worker_cpus(job), **({"GPU": 1} if job.scaling.gpu else {})}


def _group_in_words(job: Job) -> str:
    each = ", ".join(f"{count:g} {name}" for name, count in _resources(job).items())
    count = job.scaling.min_workers
    return f"a worker ({each})" if count == 1 else f"{count} workers (each {each})"


def _deaths(ledger: Any) -> Any:
    """A callback that registers workers in the ledger which ended without reporting an error themselves."""
    import ray
    from ray.train import UserCallback

    class Deaths(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for rank, error in worker_exceptions.items():
                death = getattr(error, "health_check_failure", None)
                if getattr(death, "preempted", False):
                    ray.get(ledger.preempted.remote())
                elif death is not None:
                    ray.get(ledger.failed.remote(f"worker {rank}: {one_line(death)}"))

    return Deaths()


def _first_cause(ledger: Any, error: BaseException) -> ThawError:
    """The first error of the workers, in one line."""
    import ray

    try:
        cause = ray.get(ledger.cause.remote())
    except ray.exceptions.RayError:  # Ray itself is gone
        cause = ""
    return cluster_error("Training", cause or one_line(error))
