"""Where a run stands, read from its store alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from job.config.jobfile import load_job
from job.errors import JobError
from job.evaluation.run_documents import report_uri
from job.features.cache_plan import read_plan
from job.registry.retrain_policy import recorded
from job.run.events import RunProgress
from job.run.lease import LEASE, LOOK, is_free
from job.run.outcome import Decision, PromotionDecision, RunResult
from job.run.run import open_run
from job.run.state import Cancellation, State, describe, first_state, read_state
from job.storage import Store, open_store
from job.storage.documents import plain, read_document
from job.storage.run_keys import RunKeys, run_uri
from job.telemetry.run_progress import describe as describe_progress
from job.telemetry.run_progress import read_progress


def open_runs(what: str) -> tuple[Store, str | None]:
    """A run by its URI or folder, or a store, by its URI or a job file (or a folder of them): then the run is None.

    Raises JobError, also where there is no such run.
    """
    here = Path(what).resolve()
    if "://" in what:
        if not what.rstrip("/").rpartition("/")[0].endswith("/runs"):
            return open_store(what), None
    elif here.parent.name != "runs" or here.is_file() or any(here.glob("*.yaml")):
        job = load_job(what, ())
        return open_store(job.store, job.storage), None
    store, run = open_run(what)
    keys = RunKeys(run)
    if not any(store.stat(key) for key in (keys.state, keys.result, keys.decision)):
        raise _unknown(store, run)
    return store, run


def _unknown(store: Store, run: str) -> JobError:
    return JobError(f"{run_uri(store, run)}: there is no such run: nobody has worked on it so far.")


@dataclass(frozen=True)
class RunStatus:
    run: str
    """The URI."""
    state: str
    """`reserved`, `working`, `ended` (before it was finished), `not worth it` (see retrain_when) or `finished`."""
    attempt: int
    holder: str | None
    alive: bool | None
    """Whether the holder renews its lease; None where that was not watched."""
    cancelled: Cancellation | None
    standing: RunProgress | None
    """The progress of a run that is not finished."""
    checkpoint: dict[str, str | int | bool] | None
    """The last one: {phase, epoch, step, finished}."""
    cache: str | None
    """The reason for the plan of the features."""
    decision: Decision | None
    result: RunResult | None
    promotion: PromotionDecision | None
    report: str | None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "result": plain(self.result), "promotion": plain(self.promotion)}


def run_status(store: Store, run: str, watch: bool) -> RunStatus:
    """`watch` has the holder of the lease watched, for up to LEASE seconds. Raises JobError where there is no such run,
    and StorageError where one of its documents is none.
    """
    keys = RunKeys(run)
    result, held, decision = read_document(store, keys.result, RunResult), read_state(store, run), recorded(store, run)
    if held is None and result is None and decision is None:
        raise _unknown(store, run)
    state = held.state if held else replace(first_state(None), attempt=0)
    plan = read_plan(store, run)
    free = is_free(state)
    left_alone = decision is not None and decision.train is False
    ended = "not worth it" if left_alone else "ended" if state.attempt else "reserved"
    standing = None if result else read_progress(store, run, state.attempt)
    return RunStatus(
        run=run_uri(store, run),
        state="finished" if result else "working" if not free else ended,
        attempt=state.attempt,
        holder=None if free else describe(state.holder),
        alive=False if free else is_renewed(store, run, state) if watch and not result else None,
        cancelled=state.cancelled,
        standing=standing,
        checkpoint=_last_checkpoint(state),
        cache=plan.reason if plan else None,
        decision=decision,
        result=result,
        promotion=read_document(store, keys.promotion, PromotionDecision),
        report=report_uri(store, run) if result else None,
    )


def is_renewed(
    store: Store, run: str, seen: State, *, sleep: Callable[[float], None] = time.sleep, patience: float = LEASE
) -> bool:
    """Whether the lease is renewed, or passes to another attempt, within `patience` seconds. No clocks are compared."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        sleep(LOOK)
        held = read_state(store, run)
        if held and (held.state.attempt, held.state.renewals) != (seen.attempt, seen.renewals):
            return True
    return False


def describe_run(status: RunStatus) -> list[str]:
    """The status in lines, without the result's metrics."""
    lines = [f"run         {status.run}", f"state       {status.state}"]
    if status.attempt:
        lines.append(f"attempt     {status.attempt}" + (f" ({status.holder})" if status.holder else ""))
    if status.alive:
        lines.append("alive       it has just renewed its lease")
    elif status.alive is False and status.state == "working":
        lines.append(f"alive       no sign of life in {LEASE:g} s of watching: running again takes it over")
    if status.cancelled:
        lines.append(f"cancelled   by {status.cancelled.by}, at {status.cancelled.at}")
    if status.standing:
        lines.append(f"progress    {status.standing.percent:.0f} %, {describe_progress(status.standing)}")
    if status.checkpoint:
        phase, epoch, step = (status.checkpoint[name] for name in ("phase", "epoch", "step"))
        lines.append(f"checkpoint  {str(phase).replace('_', '-')} epoch {epoch}" + (f", step {step}" if step else ""))
    if status.cache:
        lines.append(f"cache       {status.cache}")
    if status.decision and status.decision.reason:
        lines.append(f"train?      {status.decision.reason}")
    if status.result and status.result.model:
        lines.append(f"model       {status.result.model}")
    if status.report:
        lines.append(f"report      {status.report}")
    if status.promotion:
        verdict = "promoted" if status.promotion.promoted else "not promoted"
        lines.append(f"{verdict:<11} {status.promotion.reason}")
    return lines


def _last_checkpoint(state: State) -> dict[str, str | int | bool] | None:
    if not state.checkpoints:
        return None
    entry = state.checkpoints[-1]
    return {name: getattr(entry, name) for name in ("phase", "epoch", "step", "finished")}
