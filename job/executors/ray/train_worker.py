"""The function of one Ray Train worker, and its context, which reports to the driver."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any, TypedDict

from job.errors import CorruptFeatures, Interrupted, Replaced, ThawError, headline
from job.executors.ray.ray_metrics import RayMetrics
from job.libraries import import_tensorflow
from job.run.events import Event, WorkerFailed
from job.run.instruments import WorkerMetrics
from job.training.context import Recipe, Start
from job.training.watchdog import INTERVAL, STALLED
from job.training.worker import train


class WorkerConfig(TypedDict):
    """What every worker of a run is given."""

    recipe: Recipe
    cpus: int
    """Cores of a worker."""
    events: Any
    """A Ray queue of events."""
    ledger: Any
    """The actor that knows how the groups of workers are doing."""


def train_worker(config: WorkerConfig) -> None:
    """Trains as one of the workers.

    An error that the user can fix goes to the driver as an event, and is registered in the ledger as the end, so that a
    new group does nothing. The worker then fails, so that Ray ends the workers that wait for it.
    """
    import ray

    context = RayContext(config["cpus"], config["events"], config["ledger"])
    try:
        train(config["recipe"], context)
    except Interrupted:  # once a checkpoint is kept
        ray.get(context.ledger.stopped.remote())
    except Replaced:  # another group has taken its place and goes on
        raise
    except ThawError as error:
        part = (error.featurizer, error.file) if isinstance(error, CorruptFeatures) else ()
        context.emit(WorkerFailed(type(error).__name__, (str(error), *part)))
        ray.get(context.ledger.end.remote())
        raise
    except Exception as error:
        ray.get(context.ledger.failed.remote(f"rank {context.rank}: {headline(error)}", follows=_follows(error)))
        raise


class RayContext:
    def __init__(self, cpus: int, events: Any, ledger: Any) -> None:
        import ray.train

        own = ray.train.get_context()
        self.rank, self.world_size = own.get_world_rank(), own.get_world_size()
        self.local_rank, self.local_world_size = own.get_local_rank(), own.get_local_world_size()
        self.cpus = cpus
        self.metrics: WorkerMetrics = RayMetrics()
        self.events, self.ledger = events, ledger

    def emit(self, event: Event) -> None:
        self.events.put(event)

    def from_first(self, value: Any) -> Any:
        from ray.train.collective import broadcast_from_rank_zero

        return broadcast_from_rank_zero(value)

    def start(self, checkpoint: str) -> Start:
        import ray

        return ray.get(self.ledger.begin.remote(checkpoint))

    def is_over(self) -> bool:
        import ray

        return ray.get(self.ledger.is_over.remote())

    def end(self) -> None:
        import ray

        ray.get(self.ledger.end.remote())

    def listen(self) -> threading.Event:
        """An event that is set when the workers have to stop: in every worker before a node is preempted, and in rank 0
        when the driver asks for it.
        """
        stop = threading.Event()
        threading.Thread(target=self._look, args=(stop,), name="listener", daemon=True).start()
        return stop

    def leave(self, why: str) -> None:
        """Ends the process of this worker; Ray starts another one in its place."""
        os._exit(STALLED)

    def _look(self, stop: threading.Event) -> None:
        import ray.exceptions
        import ray.train

        while not stop.is_set():
            with suppress(ray.exceptions.RayError):  # the network failed: the next round asks again
                if self.rank == 0 and ray.get(self.ledger.is_stopping.remote()):
                    stop.set()
                # The call is a barrier: it returns in all workers or in none.
                if ray.train.get_preemption_info() is not None:
                    stop.set()
                    if self.rank == 0:
                        ray.get(self.ledger.preempted.remote())
            time.sleep(INTERVAL)


def _follows(error: Exception) -> bool:
    """Whether a worker fails because another one is gone."""
    import_tensorflow()
    import tensorflow as tf

    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)
    return isinstance(error, (*lost, tf.errors.DeadlineExceededError))
