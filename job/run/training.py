"""Starts Ray Train and passes on what its workers say."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from typing import Any

from job import errors
from job.config import Job
from job.errors import ClusterError, Interrupted, ThawError
from job.run.actors import cluster_error, one_line
from job.run.cluster import worker_cpus
from job.run.interrupt import Interrupts
from job.run.ledger import beside_driver, make_ledger
from job.train.worker import train_worker

RESIZE = 10.0
"""Seconds between two looks for room for more workers."""


def run_training(job: Job, run: str, config: dict[str, Any], interrupts: Interrupts, say: Callable[..., None]) -> None:
    """Trains until `config["until"]`; the results are in the store. Raises what the workers raised.

    Ray Train starts the workers, and others in their place. What they keep is in the run's state alone: Ray is told
    of no checkpoint, and what it stores is thrown away.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer
    from ray.util.queue import Queue

    events, ledger = Queue(actor_options=beside_driver()), make_ledger()
    listener = _Listener(events, say)
    cpus, recovery = worker_cpus(job), job.recovery
    preemptions = -1 if recovery.max_preemption_failures is None else recovery.max_preemption_failures
    with tempfile.TemporaryDirectory(prefix="thaw-") as folder, interrupts.passed_to(lambda: ledger.stop.remote()):
        trainer = TensorflowTrainer(
            train_worker,
            train_loop_config={**config, "run": run, "cpus": cpus, "events": events, "ledger": ledger},
            scaling_config=ScalingConfig(
                num_workers=_workers(job),
                use_gpu=job.scaling.gpu,
                resources_per_worker=_resources(job, cpus),
                elastic_resize_monitor_interval_s=RESIZE,  # type: ignore[call-arg]
            ),
            run_config=RunConfig(
                name=run,
                storage_path=folder,
                failure_config=FailureConfig(
                    max_failures=recovery.max_failures,
                    max_preemption_failures=preemptions,  # type: ignore[call-arg]
                ),
                callbacks=[_deaths(ledger)],
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            listener.stop()
            raise listener.error or _first_cause(ledger, error) from error
    listener.stop()
    if listener.error:
        raise listener.error
    if not listener.trained and interrupts.asked:
        raise Interrupted(
            f"Stopped by {interrupts.asked}: a checkpoint of this step is kept, and running again goes on from it."
        )
    if not listener.trained:
        raise ClusterError("The training workers ended without a result. Run again with --debug to see their logs.")


def _workers(job: Job) -> Any:
    """A number or a range: Ray's own types are those of its older Train."""
    scaling = job.scaling
    return (scaling.min_workers, scaling.max_workers) if scaling.elastic else scaling.max_workers


def _resources(job: Job, cpus: int) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": 1} if job.scaling.gpu else {})}


def _deaths(ledger: Any) -> Any:
    """Tells the ledger of workers that ended without a word of their own."""
    import ray
    from ray.train import UserCallback

    class Deaths(UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for rank, error in worker_exceptions.items():
                death = getattr(error, "health_check_failure", None)
                if death is not None:
                    ray.get(ledger.failed.remote(f"worker {rank}: {one_line(death)}"))

    return Deaths()


class _Listener:
    """A thread that hands the workers' events to `say`."""

    def __init__(self, events: Any, say: Callable[..., None]) -> None:
        self._events, self._say = events, say
        self.error: ThawError | None = None
        self.trained = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._events.put(None)
        self._thread.join(timeout=30)
        self._events.shutdown()

    def _listen(self) -> None:
        while (event := self._events.get()) is not None:
            kind = event.pop("kind")
            if kind == "error":
                self.error = self.error or getattr(errors, event["type"])(*event["arguments"])
                continue
            self.trained |= kind == "trained"
            self._say(kind, **event)


def _first_cause(ledger: Any, error: BaseException) -> ThawError:
    """The first worker's exception, in one line."""
    import ray

    try:
        cause = ray.get(ledger.cause.remote())
    except ray.exceptions.RayError:  # Ray itself is gone
        cause = ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return cluster_error("Training", cause or lines[-1])
