"""Finds the run of a job, takes it, and runs its stages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NoReturn

from job.config import Job
from job.data.source import open_source
from job.data.sources.packed import list_shards, without_index
from job.errors import JobError, Superseded
from job.executors import Executor, executor_of
from job.executors.packed_index import index_shards
from job.export.formats import check_formats
from job.export.further import export_formats
from job.pipeline import Attempt, run_stages
from job.registry.promotion import finished_outcome
from job.run.events import Announced, AttemptEnded, AttemptStarted, Emit, RunFound, StageStarted
from job.run.identity import find_run, prepare_base
from job.run.interrupts import Interrupts
from job.run.lease import take
from job.run.outcome import RunOutcome
from job.run.run import Run
from job.storage import open_store
from job.storage.run_keys import run_uri


def run_job(
    job: Job, phase: str, emit: Emit, *, interrupts: Interrupts, debug: bool = False, new: bool = False
) -> RunOutcome:
    """Runs or continues the run of a job.

    The `phase` `head` stops after the head's checkpoint, `fine_tune` needs that checkpoint, `all` does what is left.
    `new` begins another run where there is one with the same inputs. `interrupts`, which the caller has entered, asks
    the run to end.
    """
    if phase == "fine_tune" and job.phases.fine_tune is None:
        raise JobError("--phase fine_tune: the job file says phases.fine_tune: null.")
    check_formats(job.export.formats)
    source, store = open_source(job), open_store(job.store, job.storage)
    with ExitStack() as stack:
        job, executor = stack.enter_context(executor_of(job, debug, emit))
        emit(Announced(f"listing {source.uri}"))
        if job.data.is_packed:
            missing = without_index(job.data, source, store, shards=list_shards(job.data, source))
            if missing:
                emit(StageStarted("indexing"))
                index_shards(job.data, source, store, missing=missing, executor=executor, emit=emit)
                emit(StageStarted("listing"))
        identified = find_run(job, source, store, emit=emit, new=new)
        run, network = identified.run, identified.network
        fine_tunes = job.phases.fine_tune is not None and phase != "head"
        emit(RunFound(run_uri(store, run), ("head", *["fine_tune"] * fine_tunes)))
        outcome = finished_outcome(job, store, run)
        if outcome is not None:
            emit(Announced("this run is finished: nothing is left to do (--new starts another)"))
        else:
            with take(store, run, emit, lost=_leave, cancelled=interrupts.ask) as lease:
                number = lease.state.token.attempt
                taken = Run(job, run, lease.store, identified.snapshot, identified.base)
                with _attempt(taken, number, executor, emit=emit):
                    attempt = Attempt(taken, number, phase, executor, interrupts, emit)
                    outcome = run_stages(attempt, lambda: network or prepare_base(job, store, emit)[1])
        formats = export_formats(job, store, run, result=outcome.result, emit=emit, debug=debug)
        return replace(outcome, formats=formats)


@contextmanager
def _attempt(run: Run, number: int, executor: Executor, *, emit: Emit) -> Iterator[None]:
    """Emits the events of the attempt's start and of its end."""
    error: BaseException | None = None
    try:
        emit(AttemptStarted(number, run, executor))
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        emit(AttemptEnded(error))


def _leave(error: Superseded) -> NoReturn:
    """Ends this process at once, from any thread: another attempt has taken the run over."""
    sys.stderr.write(f"thaw: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)
