"""What one training worker does, wherever it runs."""

from __future__ import annotations

import time

from job.run.events import Warned
from job.run.state import FencingToken, GuardedStore, RunState
from job.run.strategy import precision, prepare_process
from job.storage import open_store
from job.storage.run_keys import RunKeys
from job.training.context import Recipe, WorkerProcess
from job.training.watchdog import Laps, Watchdog


def train(recipe: Recipe, context: WorkerProcess) -> None:
    """Goes on with the run from its latest checkpoint; what it comes to is in the store.

    Raises Interrupted once a checkpoint is kept, and what else the phases raise.
    """
    watchdog, laps = _watchdog(recipe, context), Laps()
    try:
        with precision(recipe.job):
            prepare_process(recipe.job, context.cpus)
            from job.training.member import Member  # which imports TensorFlow and Keras

            Member(recipe, context, watchdog=watchdog, laps=laps).train()
    finally:
        watchdog.end()


def _watchdog(recipe: Recipe, context: WorkerProcess) -> Watchdog:
    """Writes `runs/<run>/stacks/<attempt>-<rank>-<time>.txt` before it ends a worker that does not get on."""
    job, where = recipe.job, f"{recipe.attempt}-{context.rank}"
    store = open_store(job.store, job.storage)
    guarded = GuardedStore(store, RunState(store, recipe.run, FencingToken(recipe.attempt)))
    still = f"worker {context.rank} made no step for {job.recovery.stall_timeout:g} s and is ended"

    def report(stacks: str) -> None:
        key = RunKeys(recipe.run).stacks(f"{where}-{int(time.time())}")
        guarded.write(key, stacks.encode())
        context.emit(Warned(f"{still}; its stacks: {store.uri}{key}"))

    return Watchdog(job.recovery.stall_timeout, report, lambda _: context.leave(still))
