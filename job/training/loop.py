"""How a phase is trained.

A phase is a number of epochs; it ends earlier once `patience` epochs have not lowered the validation loss, and what it
leaves is the best of them. An epoch is a few calls of the network, each of which makes many steps. A checkpoint holds
all that the next step depends on, also in the middle of an epoch: who goes on from it ends with the same bytes.

Every worker runs this, from the same checkpoint. With the gradients of each call travel votes: whether to save, whether
to stop, how many steps come next. They come back as their sum, the same for all, as are the losses. So all workers
make the same steps, save at the same step, and stop at the same step.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np
import tensorflow as tf

from job.errors import Interrupted, NotFinite
from job.run.events import EpochEnded, StepsMade, WeightsMeasured
from job.run.outcome import EpochRecord
from job.training.batches import proven
from job.training.checkpoint import Checkpoint, values
from job.training.control import StepDecision
from job.training.measure import Score, histogram
from job.training.optimization import Schedule
from job.training.phase import EpochBatches, Phase
from job.training.phase_task import Call
from job.training.step import StepInputs, StepResults


def train_phase(phase: Phase, state: Checkpoint) -> Checkpoint:
    """Makes the epochs that are left after `state`, and returns the last checkpoint. The variables are left as they
    were at the best validation loss.

    Raises TrainingError, and Interrupted where a worker was asked to stop, once a checkpoint is kept.
    """
    while not state.progress.finished:
        state = train_epoch(phase, state)
    phase.assign(state.best)
    return state


def train_epoch(phase: Phase, state: Checkpoint) -> Checkpoint:
    """Makes the epoch's steps that are left after `state`, validates, and returns the checkpoint after the epoch."""
    epoch = open_epoch(phase, state)
    decision = StepDecision(save=False, stop=False)  # where no step is left: the attempt before ended in validation
    while epoch.step < phase.steps_per_epoch:
        began = time.monotonic()
        inputs = next_steps(phase, epoch)
        results = phase.make_steps(epoch.batches, inputs)
        record_steps(phase, epoch, results, began=began)
        decision = phase.team.control.decision(results.votes.numpy(), len(inputs.seeds), time.monotonic() - began)
        is_over = epoch.step == phase.steps_per_epoch
        if decision.save or is_over:
            state = checkpoint(phase, epoch, state)
        if decision.stop:
            stop(phase, state)
        if decision.save and not is_over:
            save(phase, state)
    digest = proven(state.progress.seen, phase.data.ids[phase.train], f"{phase.task.name}: epoch {epoch.number}")
    score = phase.validate(between=lambda: stop_if_asked(phase, state))
    state = close_epoch(phase, epoch, state, score=score, digest=digest)
    if decision.save or state.progress.finished:
        save(phase, state, wait=state.progress.finished)
    return state


@dataclass
class Epoch:
    """The epoch that is under way."""

    number: int
    last: int
    """The number of the phase's last epoch, at most."""
    batches: EpochBatches
    schedule: Schedule
    began: float
    """time.monotonic(), without the time between attempts."""
    step: int
    """Steps made, of all attempts."""
    losses: np.ndarray
    """The losses of those steps, float32 [step]."""
    seen: np.ndarray
    """The proofs of what this worker has read, int64 [2]. The first worker's has those of attempts before."""
    waits: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """float64 [2]: seconds of this group's steps for batches and for the sum over the workers."""


def open_epoch(phase: Phase, state: Checkpoint) -> Epoch:
    """The epoch after the last one that is complete, at the step that `state` has reached."""
    progress, number = state.progress, state.progress.epoch + 1
    return Epoch(
        number=number,
        last=progress.epochs_before + phase.task.settings.epochs,
        began=time.monotonic() - progress.seconds,
        batches=phase.batches(number, progress.step),
        schedule=phase.schedule(progress),
        step=progress.step,
        losses=state.losses,
        seen=_of_first_worker(phase, progress.seen),
    )


def next_steps(phase: Phase, epoch: Epoch) -> StepInputs:
    """Learning rates, seeds and votes of the steps of the next call; there is at least one."""
    control = phase.team.control
    first = (epoch.number - 1) * phase.steps_per_epoch + epoch.step
    steps = first + np.arange(control.steps(first, phase.steps_per_epoch - epoch.step))
    return StepInputs(
        learning_rates=tf.constant([epoch.schedule.rate(int(step)) for step in steps], tf.float32),
        seeds=phase.step_seeds(steps),
        votes=tf.constant(control.votes(first + len(steps))),
    )


def record_steps(phase: Phase, epoch: Epoch, results: StepResults, *, began: float) -> None:
    """Adds the steps of a call, which began at `began`, to the epoch. Raises NotFinite, naming the first step whose
    loss is not finite.
    """
    losses, waits, task = results.losses.numpy(), results.waits.numpy(), phase.task
    epoch.losses, epoch.seen = np.concatenate([epoch.losses, losses]), epoch.seen + results.proof.numpy()
    epoch.waits, epoch.step = epoch.waits + waits, epoch.step + len(losses)
    reached = StepsMade(
        phase=task.name,
        epoch=epoch.number,
        epochs=epoch.last,
        step=epoch.step,
        steps=phase.steps_per_epoch,
        examples=epoch.step * task.batch_size,
        loss=float(epoch.losses.mean()),
        seconds=time.monotonic() - epoch.began,
    )
    call = Call(
        steps=len(losses),
        examples=len(losses) * phase.share.size,
        seconds=time.monotonic() - began,
        waits=waits,
        loss=float(losses[-1]),
    )
    phase.team.measured(reached, call)
    wrong = np.flatnonzero(~np.isfinite(losses))
    if len(wrong):
        raise _not_finite(phase, epoch, "the loss is", step=epoch.step - len(losses) + int(wrong[0]))


def checkpoint(phase: Phase, epoch: Epoch, state: Checkpoint) -> Checkpoint:
    """`state` at the step that the epoch has reached: all workers call it. Raises NotFinite."""
    if not all(bool(tf.reduce_all(tf.math.is_finite(v.value))) for v in phase.task.variables.values()):
        raise _not_finite(phase, epoch, "its weights are", step=epoch.step - 1)
    ids, misplaced = phase.sum_over_workers(epoch.seen).tolist()
    epoch.seen = _of_first_worker(phase, (ids, misplaced))
    seconds = time.monotonic() - epoch.began
    progress = replace(state.progress, step=epoch.step, seen=(ids, misplaced), seconds=seconds)
    weights, optimizer = values(phase.task.variables), values(phase.slots)
    return replace(state, progress=progress, weights=weights, optimizer=optimizer, losses=epoch.losses)


def save(phase: Phase, state: Checkpoint, wait: bool = False) -> None:
    phase.team.save(state, wait)
    phase.team.control.saved()


def stop(phase: Phase, state: Checkpoint) -> NoReturn:
    """Raises Interrupted once the checkpoint is kept."""
    save(phase, state, wait=True)
    progress = state.progress
    raise Interrupted(f"stopped at step {progress.step} of {progress.phase} epoch {progress.epoch + 1}")


def stop_if_asked(phase: Phase, state: Checkpoint) -> None:
    """All workers call it at the same time."""
    if phase.sum_over_workers(phase.team.control.wants_stop()).any():
        stop(phase, state)


def close_epoch(phase: Phase, epoch: Epoch, state: Checkpoint, *, score: Score, digest: str) -> Checkpoint:
    """The checkpoint after the epoch: its record, whether it was the best one, whether the phase is finished."""
    task, progress = phase.task, state.progress
    if not math.isfinite(score.loss):
        what = f"{task.name}: the validation loss is not finite after epoch {epoch.number}."
        raise NotFinite(f"{what} {_advice(phase, epoch)}")
    record = EpochRecord(
        epoch=epoch.number,
        loss=_mean_loss(phase, epoch),
        validation_loss=score.loss,
        validation_accuracy=score.accuracy,
        learning_rate=epoch.schedule.rate(epoch.number * phase.steps_per_epoch - 1),
        seconds=round(time.monotonic() - epoch.began, 3),
        examples=len(phase.train),
        digest=digest,
        blocks=task.blocks,
        **_waits(epoch),
    )
    steps = (progress.epochs_of_others + epoch.number) * phase.steps_per_epoch
    phase.team.emit(EpochEnded(task.name, record, epochs=epoch.last, steps=steps, losses=epoch.losses))
    if phase.team.rank == 0 and (thawed := task.thawed):
        phase.team.emit(WeightsMeasured(steps=steps, histograms={p: histogram(v.numpy()) for p, v in thawed.items()}))
    stopping = progress.stopping.after(epoch.number, score.loss)
    progress = replace(
        progress,
        epoch=epoch.number,
        finished=stopping.converged or epoch.number >= epoch.last,
        stopping=stopping,
        history={**progress.history, task.name: [*progress.history[task.name], record]},
        step=0,
        seen=(0, 0),
        seconds=0.0,
    )
    best = state.weights if stopping.best_epoch == epoch.number else state.best
    return replace(state, progress=progress, best=best, losses=np.empty(0, np.float32))


def _of_first_worker(phase: Phase, seen: tuple[int, int]) -> np.ndarray:
    """What the first worker adds to, int64 [2]; all others begin at 0, so that the sum over all counts it once."""
    return np.array(seen if phase.team.rank == 0 else (0, 0), np.int64)


def _mean_loss(phase: Phase, epoch: Epoch) -> float:
    """The mean of the epoch's losses, in which each step has the weight of its examples."""
    weights = phase.data.weights[epoch.batches.examples]
    of_steps = np.add.reduceat(weights, np.arange(0, len(weights), phase.task.batch_size))
    return float(np.average(epoch.losses.astype(np.float64), weights=of_steps))


def _waits(epoch: Epoch) -> dict[str, float]:
    """What of the record says how long the steps waited; nothing where that was not measured."""
    if not epoch.waits.any():
        return {}
    return dict(zip(("input_wait", "all_reduce_wait"), np.round(epoch.waits, 3).tolist(), strict=True))


def _not_finite(phase: Phase, epoch: Epoch, what: str, *, step: int) -> NotFinite:
    """`step` counts the steps of the epoch from 0."""
    size = phase.task.batch_size
    examples = phase.team.examples(epoch.batches.examples[step * size : (step + 1) * size])
    return NotFinite(
        f"{phase.task.name}: {what} not finite at step {step + 1} of epoch {epoch.number}, on {examples}. "
        f"{_advice(phase, epoch)}"
    )


def _advice(phase: Phase, epoch: Epoch) -> str:
    return f"Lower phases.{phase.task.name}.learning_rate ({epoch.schedule.highest:g}) and run again."
