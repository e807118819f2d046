"""From a job to its run, and who works on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NoReturn

from job.config import Job
from job.data.source import open_source
from job.data.sources.packed import list_shards, without_index
from job.errors import JobError, Superseded
from job.executors import executor_of
from job.executors.packed_index import index_shards
from job.export.formats import check_formats
from job.export.further import with_formats
from job.pipeline import Attempt
from job.registry.promotion import finished_result
from job.run.identity import find_run, prepare_base
from job.run.interrupts import Interrupts
from job.run.lease import take
from job.run.run import Run
from job.run.timings import Clock
from job.storage import Store, open_store
from job.storage.runs import run_uri
from job.telemetry.logged import check_mlflow, with_mlflow

Say = Callable[..., None]
"""(kind, fields): what a person is told on the way."""


def run_job(
    job: Job, phase: str, say: Say, debug: bool = False, new: bool = False, interrupts: Interrupts | None = None
) -> dict[str, Any]:
    """Runs or continues the run and returns {run, snapshot, state, metrics: {head, fine_tune}, model, promotion}, and
    the `formats` and the `mlflow` that the job asks for.

    `state` is `finished`, `head` where it was to stop there, or `not worth it`, with the `decision` of retrain_when.
    `phase`: `head` stops after the head's checkpoint, `fine_tune` wants that checkpoint, `all` does what is left.
    `new` begins another run, where there is one of the same thing. `interrupts`, where someone else may ask it to end.
    """
    if phase == "fine_tune" and job.phases.fine_tune is None:
        raise JobError("--phase fine_tune: the job file says phases.fine_tune: null.")
    check_formats(job.export.formats)
    check_mlflow(job)
    source, store = open_source(job), open_store(job.store, job.storage)
    clock = Clock(say)
    say = clock.say
    with ExitStack() as stack:
        interrupts = stack.enter_context(interrupts or Interrupts())
        job, executor = stack.enter_context(executor_of(job, debug, say))
        say("stage", text=f"listing {source.uri}")
        if job.data.is_packed:
            missing = without_index(job.data, source, store, list_shards(job.data, source))
            if missing:
                clock.begin("indexing")
                index_shards(job.data, source, store, missing, executor, say)
                clock.begin("listing")
        found = find_run(job, source, store, say, new)
        run, network = found.run, found.network
        fine_tunes = job.phases.fine_tune is not None and phase != "head"
        say("run", uri=run_uri(store, run), phases=["head", *["fine_tune"] * fine_tunes])
        finished = finished_result(job, store, run)
        if finished is not None:
            say("stage", text="this run is finished: nothing is left to do (--new starts another)")
            return _complete(job, store, run, finished, say, debug)
        with take(store, run, say, _leave, interrupts.ask) as lease:
            number = lease.state.token.attempt
            with clock.kept(lease.store, run, number):
                say("attempt", number=number)
                taken = Run(job, run, lease.store, found.snapshot, found.base)
                attempt = Attempt(taken, number, executor, interrupts, clock)
                result = attempt.go(phase, lambda: network or prepare_base(job, store, say)[1])
        return _complete(job, store, run, result, say, debug)


def _complete(job: Job, store: Store, run: str, result: dict[str, Any], say: Say, debug: bool) -> dict[str, Any]:
    """With what a run that is finished can still lack."""
    return with_mlflow(job, store, run, with_formats(job, store, run, result, say, debug), say)


def _leave(error: Superseded) -> NoReturn:
    """Ends this process at once, from whatever thread: the run has gone to someone else, and nothing is left to do."""
    sys.stderr.write(f"thaw: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)
