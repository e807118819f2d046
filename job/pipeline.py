"""The pipeline: the stages of a run in order, from its data to the model in use.

Each stage writes its results into the store, its marker last, and returns at once where its marker is there. So a run
that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from job.errors import CorruptFeatures, TrainingError
from job.evaluation.predictions import evaluate_run
from job.executors import Executor
from job.export.result import finish
from job.features.cache_plan import Plan
from job.features.extract import complete_features
from job.features.store import MAX_CORRUPT, forget_corrupt
from job.registry.promotion import promote_if_better
from job.registry.retrain_policy import final_decision, initial_decision, untrained
from job.registry.warm import plan_features, warm_start
from job.report.finished import report
from job.run.events import Emit, StageStarted
from job.run.interrupts import Interrupts
from job.run.outcome import Decision, RunOutcome, RunResult
from job.run.run import Run
from job.run.state import has_trained_head
from job.run.unfinished import forget_unfinished
from job.storage.documents import read_document
from job.storage.scratch import forget_scratch
from job.training.context import Recipe, WarmStart


@dataclass(frozen=True)
class Attempt:
    """One attempt at a run, which this process has taken."""

    run: Run
    number: int
    phase: str
    """`head` stops after the head's checkpoint, `fine_tune` needs that checkpoint, `all` does what is left."""
    executor: Executor
    interrupts: Interrupts
    emit: Emit


def run_stages(attempt: Attempt, network: Callable[[], Any]) -> RunOutcome:
    """Goes through the remaining stages of the run, and returns its outcome.

    `network` builds the network in which the layers that fine-tuning trains are thawed. Only a new plan needs it.
    """
    run, executor, emit = attempt.run, attempt.executor, attempt.emit
    _check_head(attempt)
    forget_scratch()
    forget_unfinished(run.store, run.keys.folder, 0, emit=emit)

    result = read_document(run.store, run.keys.result, RunResult)
    if result is None:  # else an earlier attempt has written it
        initial = initial_decision(run, emit)
        if initial.train is False:
            return untrained(run, initial, emit)
        plan = plan_features(run, network, emit)
        warm = warm_start(run, emit)
        decision = on_features(attempt, plan, lambda plan: train_if_wanted(attempt, plan, initial, warm=warm))
        if not decision.train:
            return untrained(run, decision, emit)
        metrics = evaluate_run(run)
        stop_at_head = attempt.phase == "head"
        result = finish(run, attempt.number, metrics=metrics, stop_at_head=stop_at_head, emit=emit)
    promotion = promote_if_better(run, result, executor, emit=emit)
    return RunOutcome(result, promotion, report(run, result, emit))


def _check_head(attempt: Attempt) -> None:
    """Raises TrainingError where only fine-tuning is asked for, and there is no head to start from."""
    if attempt.phase != "fine_tune":
        return
    if not has_trained_head(attempt.run.store, attempt.run.id):
        raise TrainingError(
            f"--phase fine_tune: {attempt.run.uri} has no checkpoint of a converged head "
            "to start from. Run `thaw run` with --phase head first, or without --phase for both."
        )


def on_features(attempt: Attempt, plan: Plan, use: Callable[[Plan], Decision]) -> Decision:
    """Completes the features of the run, and calls `use`, which reads them. Corrupt ones are computed again."""
    run, emit = attempt.run, attempt.emit
    for tries in range(MAX_CORRUPT + 1):
        try:
            plan = complete_features(run, plan, attempt.executor, emit=emit)
            return use(plan)
        except CorruptFeatures as error:
            if tries == MAX_CORRUPT:
                raise
            forget_corrupt(run.store, error, emit)
            run.store.delete(run.keys.dataset)
    raise AssertionError("every try returns or raises")


def train_if_wanted(attempt: Attempt, plan: Plan, decision: Decision, *, warm: WarmStart) -> Decision:
    """Trains both phases, from the latest checkpoint on, if the final decision says so; returns that decision."""
    run, emit = attempt.run, attempt.emit
    decision = final_decision(run, decision, emit)
    if decision.train:
        emit(StageStarted("workers", workers=run.job.scaling.max_workers))
        attempt.executor.train(_recipe(attempt, plan, warm), attempt.interrupts, emit)
        if attempt.interrupts.asked:  # during the last step
            raise attempt.interrupts.interrupted()
    return decision


def _recipe(attempt: Attempt, plan: Plan, warm: WarmStart) -> Recipe:
    run = attempt.run
    head_alone = attempt.phase == "head" or run.job.phases.fine_tune is None
    return Recipe(
        job=run.job,
        run=run.id,
        attempt=attempt.number,
        until="head" if head_alone else "fine_tune",
        last=True,
        snapshot=run.snapshot,
        base=run.base,
        cut=plan.cut,
        warm_start=warm.source,
    )
