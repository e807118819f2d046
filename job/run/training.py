"""Starts Ray Train and passes on what its workers say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from job import errors
from job.config import Job
from job.errors import ClusterError, ThawError
from job.run.cluster import worker_cpus
from job.storage import open_store
from job.train.worker import train_worker

MAX_FAILURES = 3
"""Lost workers that one attempt survives, each resuming from the last checkpoint."""
KEPT_CHECKPOINTS = 2


def run_training(job: Job, run: str, config: dict[str, Any], say: Callable[..., None]) -> None:
    """Trains until `config["until"]`; the results are in the store. Raises what the workers raised."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer
    from ray.util.queue import Queue

    filesystem, root = open_store(job.store).arrow()
    events, ended = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    listener = _Listener(events, say)
    trainer = TensorflowTrainer(
        train_worker,
        train_loop_config={**config, "run": run, "cpus": worker_cpus(job), "events": events, "ended": ended},
        scaling_config=ScalingConfig(
            num_workers=job.scaling.workers, use_gpu=job.scaling.gpu, resources_per_worker=_resources(job)
        ),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=f"{root}/runs/{run}",
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        listener.stop()
        raise listener.error or _first_cause(error) from error
    listener.stop()
    if listener.error:
        raise listener.error
    if not listener.trained:
        raise ClusterError("The training workers ended without a result. Run again with --debug to see their logs.")


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


def _resources(job: Job) -> dict[str, float]:
    return {"CPU": worker_cpus(job), **({"GPU": 1} if job.scaling.gpu else {})}


def _first_cause(error: BaseException) -> ThawError:
    """The first worker's exception, in one line."""
    failures = getattr(error, "worker_failures", None)
    cause = failures[min(failures)] if failures else error
    lines = [line for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    return ClusterError(f"Training failed on the cluster: {lines[-1].strip()} (--debug shows the workers' logs).")
