"""The recipe: train the head until it has converged, then thaw a few top layers and fine-tune them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import keras
import numpy as np

from job.config import FineTunePhase, Job, UnfreezeAuto
from job.errors import TrainingError
from job.model.freezing import block_sizes, freeze, thaw
from job.model.heads import take_over
from job.model.network import Network, variables_by_path
from job.run.events import HeadTrained, LayersThawed
from job.run.outcome import BlockVerdict, EpochRecord
from job.training.checkpoint import CallerState, Checkpoint, Progress, Tensors, values
from job.training.factory import PhaseFactory, trainable
from job.training.loop import train_phase
from job.training.phase import Phase
from job.training.thawing import FineTuned, thaw_block_by_block


@dataclass(frozen=True)
class Trained:
    """What a worker ends with: the variables that differ from the frozen base, and the logits to measure it by."""

    head: Tensors
    """The converged head."""
    converged: bool
    logits: dict[str, np.ndarray]
    """Per model (`head`, `fine_tune`): float32 [n, classes] on `examples`."""
    examples: np.ndarray
    """The examples of the validation and the test split: positions in the data set, int64 [n]."""
    progress: Progress
    fine_tuned: Tensors | None = None
    """Head and thawed variables at the best validation loss; None where only the head was trained."""
    kept: str = "head"
    """`fine_tune`, or `head` where that was the better one on the validation split."""
    thawed: tuple[BlockVerdict, ...] = ()
    """What `unfreeze: auto` decided about each block that it tried."""

    @property
    def history(self) -> dict[str, list[EpochRecord]]:
        return self.progress.history


def train_phases(
    factory: PhaseFactory, *, until: str, resumed: Checkpoint | None = None, warm: WarmWeights | None = None
) -> Trained:
    """Runs what is left of the phases up to `until` (`head` or `fine_tune`), from `resumed` where there is one.

    The head is trained on the frozen base. If it has converged, top layers of the base are thawed and fine-tuned with
    it. Both models are asked for the validation and test split, which is what they are measured by.
    """
    job, network, data = factory.job, factory.network, factory.data
    head, state = _head_of(factory, resumed, warm)
    examples = np.concatenate([data.splits["validation"], data.splits["test"]])
    trained = Trained(
        head=state.caller.tensors["head"],
        converged=state.caller.document["converged"],
        logits={"head": head.predict(examples)},
        examples=examples,
        progress=state.progress,
    )
    if until == "head" or job.phases.fine_tune is None:
        return trained
    check_converged(converged=trained.converged, job=job)
    statistics = _moving_statistics(network.base)
    tuned = fine_tune(factory, job.phases.fine_tune, state, warm=warm)
    _assert_unmoved(statistics, _moving_statistics(network.base))
    return replace(
        trained,
        fine_tuned=values(trainable(network.model)),
        kept="fine_tune" if tuned.improved else "head",
        thawed=tuned.verdicts,
        logits={**trained.logits, "fine_tune": tuned.phase.predict(examples)},
        progress=tuned.last.progress,
    )


def hand_over_head(factory: PhaseFactory, *, resumed: Checkpoint | None, warm: WarmWeights | None) -> None:
    """Trains what is left of the head, for other workers to fine-tune: they go on from its last checkpoint. Raises
    TrainingError where the head has not converged and the job does not allow that.
    """
    _, state = _head_of(factory, resumed, warm)
    check_converged(converged=state.caller.document["converged"], job=factory.job)


def _head_of(factory: PhaseFactory, resumed: Checkpoint | None, warm: WarmWeights | None) -> tuple[Phase, Checkpoint]:
    """The phase of the head on the frozen base, and its last checkpoint, or `resumed` where that is a later one."""
    freeze_base(factory.network)
    if warm:
        warm.take_over(factory.network, warm.head)
    head = factory.head(trained=warm is not None)
    return head, train_head(head, resumed)


def freeze_base(network: Network) -> None:
    """The head's layers alone are trainable."""
    freeze(network.model)
    for layer in network.head.layers:
        layer.trainable = True


def train_head(phase: Phase, resumed: Checkpoint | None) -> Checkpoint:
    """The last checkpoint of the head phase, or `resumed` where that is one of fine-tuning; the head is at its best.

    It holds the head and whether it has converged, which all checkpoints after it hold, too.
    """
    if resumed and resumed.progress.phase == "fine_tune":
        phase.assign(resumed.caller.tensors["head"])
        return resumed
    state = train_phase(phase, phase.resume(resumed) if resumed else phase.begin())
    stopping, before = state.progress.stopping, resumed is not None and resumed.progress.finished
    epoch, best = state.progress.epoch, stopping.best_epoch
    phase.team.emit(HeadTrained(converged=stopping.converged, epoch=epoch, best=best, before=before))
    return replace(state, caller=CallerState({"converged": stopping.converged}, {"head": state.best}))


def check_converged(*, converged: bool, job: Job) -> None:
    """Raises TrainingError where the head has not converged and the job does not allow that."""
    settings = job.phases.fine_tune
    if not converged and settings and not settings.allow_unconverged_head:
        raise TrainingError(
            f"The head has not converged in phases.head.epochs ({job.phases.head.epochs}) epochs: fine-tuning it would "
            "destroy good weights. Raise phases.head.epochs, or set phases.fine_tune.allow_unconverged_head: true."
        )


def fine_tune(
    factory: PhaseFactory, settings: FineTunePhase, state: Checkpoint, *, warm: WarmWeights | None
) -> FineTuned:
    """Thaws and fine-tunes. `state` is the last checkpoint of the head, or one of fine-tuning to go on from."""
    if isinstance(settings.unfreeze, UnfreezeAuto):
        tuned = thaw_block_by_block(factory, settings, settings.unfreeze.auto, state=state)
        _tell_thawed(factory)
        return tuned
    thaw(factory.network.base, settings.unfreeze)
    _tell_thawed(factory)
    best_before = 0.0
    if warm and warm.fine_tuned:
        warm.take_over(factory.network, warm.fine_tuned)
        best_before = min(record.validation_loss for record in state.progress.history["head"])
        settings = settings.model_copy(update={"epochs": settings.warm_epochs})
    phase = factory.fine_tune(settings)
    resumes = state.progress.phase == "fine_tune"
    last = train_phase(phase, phase.resume(state) if resumes else phase.begin(state))
    stopping = last.progress.stopping
    return FineTuned(phase, last, improved=stopping.best_epoch > 0 or stopping.best_loss < best_before)


def _tell_thawed(factory: PhaseFactory) -> None:
    network = factory.network
    factory.team.emit(LayersThawed(block_sizes(network.base, network.head)))


@dataclass(frozen=True)
class WarmWeights:
    """A model of the same layers on the same base, that was trained on other examples."""

    before: list[str]
    """The classes of that model."""
    classes: list[str]
    """Ours, of which each that it had is taken over."""
    head: Tensors
    """The converged head of that model."""
    fine_tuned: Tensors | None = None
    """The head and the thawed variables of that model after fine-tuning, where fine-tuning is to start from them."""

    def take_over(self, network: Network, weights: Tensors) -> None:
        take_over(network.head, weights, self.before, classes=self.classes)
        for path, variable in variables_by_path(network.base).items():
            if path in weights:
                variable.assign(weights[path])


def _moving_statistics(base: keras.Model) -> Tensors:
    """The moving statistics of batch normalization."""
    moving = {
        path: v for path, v in variables_by_path(base).items() if path.endswith(("moving_mean", "moving_variance"))
    }
    return values(moving)


def _assert_unmoved(before: Tensors, after: Tensors) -> None:
    moved = [path for path in before if before[path].tobytes() != after[path].tobytes()]
    assert not moved, f"batch norm statistics moved while frozen: {moved[:3]}"
