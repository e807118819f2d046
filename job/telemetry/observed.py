"""A run with those who listen to it, whoever else does: what a verb calls."""

from __future__ import annotations

from job.config import Job
from job.entry import run_job
from job.errors import Interrupted, LimitReached
from job.run.budget import BudgetKeeper
from job.run.events import Bus, Emit, Event
from job.run.interrupts import Interrupts
from job.run.outcome import RunOutcome
from job.run.timings import StageClock
from job.telemetry.event_files import EventFiles
from job.telemetry.logged import check_mlflow, with_mlflow
from job.telemetry.run_metrics import RunGauges
from job.telemetry.run_progress import ProgressFile, ProgressTracker


def run_observed(
    job: Job,
    phase: str,
    emit: Emit,
    *,
    debug: bool = False,
    new: bool = False,
    interrupts: Interrupts | None = None,
) -> RunOutcome:
    """Runs or continues the run as `run_job` does; `emit` gets its events, and how far it is.

    The run's folder gets its timings, its progress and its event files, and Prometheus its gauges. Where the job asks
    for MLflow, the run is logged there.
    """
    check_mlflow(job)
    bus = Bus()
    ProgressTracker(bus)
    bus.subscribe(Event, emit)
    StageClock(bus), ProgressFile(bus), EventFiles(bus), RunGauges(bus)
    interrupts = interrupts or Interrupts()
    keeper = BudgetKeeper(bus, job, interrupts.ask)
    try:
        with interrupts:
            outcome = run_job(job, phase, bus.emit, interrupts=interrupts, debug=debug, new=new)
            return with_mlflow(job, outcome, emit)
    except Interrupted as error:
        if not keeper.reached:
            raise
        raise LimitReached(
            f"{keeper.reached}: what is done is kept, and running again with a higher limit goes on from it."
        ) from error
