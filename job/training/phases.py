"""The recipe: train the head until it has converged, then thaw a few top layers and fine-tune them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.config import FineTunePhase, Job, UnfreezeAuto
from job.errors import TrainingError
from job.features.cache import FeatureCache
from job.features.dataset import Dataset
from job.model.cut import cut_named, split
from job.model.depthwise import call_with_fast_gradients
from job.model.flatten import call_frozen, flatten
from job.model.freezing import freeze, has_depthwise, thaw, trainable_rows
from job.model.heads import head_logits, take_over
from job.model.network import Network, variables_by_path
from job.run.events import HeadTrained, LayersThawed
from job.run.strategy import use_jit
from job.training.checkpoint import Checkpoint, History, Progress, Tensors, values
from job.training.loop import Phase
from job.training.phase_task import PhaseTask, WorkerContext
from job.training.step import Forward
from job.training.thawing import Thawed, thaw_block_by_block


@dataclass(frozen=True)
class Inputs:
    """The stored features on this node, by view, and where in the network they belong."""

    pooled: list[FeatureCache]
    fine_tune: list[FeatureCache]
    cut: str | None
    """The layer whose output `fine_tune` holds; None where it holds what is decoded."""


@dataclass(frozen=True)
class WarmWeights:
    """A model of the same layers on the same base, that was trained on other examples."""

    before: list[str]
    """Its classes."""
    classes: list[str]
    """Ours, of which each that it had is taken over."""
    head: Tensors
    """Its converged head."""
    fine_tuned: Tensors | None = None
    """Its head and thawed variables after fine-tuning, where that is to start from them."""

    def take_over(self, network: Network, weights: Tensors) -> None:
        take_over(network.head, weights, self.before, self.classes)
        for path, variable in variables_by_path(network.base).items():
            if path in weights:
                variable.assign(weights[path])


@dataclass(frozen=True)
class Trained:
    """What a worker ends with: the variables that differ from the frozen base, and the logits to measure it by."""

    head: Tensors
    """The converged head."""
    converged: bool
    fine_tuned: Tensors | None
    """Head and thawed variables at the best validation loss; None where only the head was trained."""
    kept: str
    """`fine_tune`, or `head` where that was the better one on the validation split."""
    thawed: tuple[dict[str, Any], ...]
    """What `unfreeze: auto` decided about each block that it tried."""
    logits: dict[str, np.ndarray]
    """Per model (`head`, `fine_tune`): float32 [n, classes] on `examples`."""
    examples: np.ndarray
    progress: Progress

    @property
    def history(self) -> History:
        return self.progress.history


def train_phases(
    job: Job,
    until: str,
    network: Network,
    data: Dataset,
    inputs: Inputs,
    team: WorkerContext,
    resumed: Checkpoint | None,
    warm: WarmWeights | None = None,
) -> Trained:
    """Runs what is left of the phases up to `until` (`head` or `fine_tune`), from `resumed` where there is one.

    1. in the head phase: resume at its epoch   2. in fine-tuning: resume at its epoch   3. else: from the start.
    """
    freeze(network.model)
    for layer in network.head.layers:
        layer.trainable = True
    if warm:
        warm.take_over(network, warm.head)
    examples = np.concatenate([data.splits["validation"], data.splits["test"]])
    head_phase = Phase(_head_task(job, network, inputs, warm is not None), data, team)
    if resumed is None or resumed.progress.phase == "head":
        last = head_phase.run(head_phase.resume(resumed) if resumed else head_phase.begin(None, head={}))
        converged = last.progress.stopping.converged
        team.emit(HeadTrained(converged=converged, epoch=last.progress.epoch, best=last.progress.stopping.best_epoch))
        head, progress, resumed = last.best, last.progress, None
    else:
        head, progress, converged = resumed.head, resumed.progress, True
        head_phase.take(head)
    logits = {"head": head_phase.predict(examples)}
    if until == "head" or job.phases.fine_tune is None:
        return Trained(head, converged, None, "head", (), logits, examples, progress)

    if not converged and not job.phases.fine_tune.allow_unconverged_head:
        raise TrainingError(
            f"The head has not converged in phases.head.epochs ({job.phases.head.epochs}) epochs: fine-tuning it would "
            "destroy good weights. Raise phases.head.epochs, or set phases.fine_tune.allow_unconverged_head: true."
        )
    statistics = _moving_statistics(network.base)
    tuned = _fine_tuned(job, network, data, inputs, team, progress, head, resumed, warm)
    _assert_unmoved(statistics, _moving_statistics(network.base))
    kept = "fine_tune" if tuned.improved else "head"
    logits["fine_tune"] = tuned.phase.predict(examples)
    variables = values(trainable(network.model))
    return Trained(head, converged, variables, kept, tuned.decided, logits, examples, tuned.last.progress)


def _fine_tuned(
    job: Job,
    network: Network,
    data: Dataset,
    inputs: Inputs,
    team: WorkerContext,
    progress: Progress,
    head: Tensors,
    resumed: Checkpoint | None,
    warm: WarmWeights | None,
) -> Thawed:
    """The rest of fine-tuning; what stays thawed is, and is at its best."""
    settings = job.phases.fine_tune
    assert settings is not None
    if isinstance(settings.unfreeze, UnfreezeAuto):

        def make(rates: dict[str, float], after: int) -> Phase:
            return Phase(_fine_tune_task(job, network, inputs, settings, rates, after), data, team)

        arguments = network, make, data, team, job.train.seed, progress, head, resumed
        thawed = thaw_block_by_block(settings.unfreeze.auto, *arguments)
        team.emit(LayersThawed(rows=[list(row) for row in trainable_rows(network.base, network.head)]))
        return thawed
    thaw(network.base, settings.unfreeze)
    team.emit(LayersThawed(rows=[list(row) for row in trainable_rows(network.base, network.head)]))
    best_before, changed = 0.0, {}
    if warm and warm.fine_tuned:
        warm.take_over(network, warm.fine_tuned)
        best_before = min(record["validation_loss"] for record in progress.history["head"])
        changed = {"epochs": settings.warm_epochs}
    phase = Phase(_fine_tune_task(job, network, inputs, settings.model_copy(update=changed)), data, team)
    last = phase.run(phase.resume(resumed) if resumed else phase.begin(progress, head))
    stopping = last.progress.stopping
    return Thawed(last, phase, stopping.best_epoch > 0 or stopping.best_loss < best_before, ())


def _head_task(job: Job, network: Network, inputs: Inputs, warm: bool) -> PhaseTask:
    return PhaseTask(
        name="head",
        settings=job.phases.head,
        batch_size=job.train.batch_size,
        seed=job.train.seed,
        inputs=inputs.pooled,
        views=len(inputs.pooled),
        forward=head_forward(job, network.head),
        variables=trainable(network.head),
        trained=warm,
        jit_compile=use_jit(job, depthwise=False),
    )


def _fine_tune_task(
    job: Job,
    network: Network,
    inputs: Inputs,
    settings: FineTunePhase,
    rates: dict[str, float] | None = None,
    after: int = 0,
) -> PhaseTask:
    """`rates` are factors for the learning rates, by layer."""
    forward, jit_compile = fine_tune_forward(job, network, inputs.cut)
    variables = trainable(network.model)
    by_path = {path: (rates or {}).get(path.partition("/")[0], 1.0) for path in variables}
    return PhaseTask(
        name="fine_tune",
        settings=settings,
        batch_size=job.train.batch_size,
        seed=job.train.seed,
        inputs=inputs.fine_tune,
        views=job.train.views,
        forward=forward,
        variables=variables,
        trained=True,
        rates=by_path,
        after=after,
        augment=job.augment if inputs.cut is None and job.augment.active else None,
        jit_compile=jit_compile,
    )


def fine_tune_forward(job: Job, network: Network, cut: str | None) -> tuple[Forward, bool]:
    """Takes what is stored at the cut, or what is decoded where there is none; and whether XLA compiles it."""
    on_features = head_forward(job, network.head)
    call = call_frozen if job.scaling.gpu else call_with_fast_gradients
    rest = network.base if cut is None else split(network.base, cut_named(network.base, cut))[1]

    def forward(stored: tf.Tensor, dropout: Any) -> tf.Tensor:
        return on_features(flatten(rest, tf.cast(stored, rest.input.dtype), call), dropout)

    return forward, use_jit(job, has_depthwise(rest))


def head_forward(job: Job, head: keras.Model) -> Forward:
    """Takes pooled features."""

    def forward(features: tf.Tensor, dropout: Any) -> tf.Tensor:
        if dropout is None:
            return head(features, training=False)
        seed, positions = dropout
        return head_logits(head, features, seed, positions, job.train.batch_size)

    return forward


def trainable(model: keras.Model) -> dict[str, keras.Variable]:
    return {path: variable for path, variable in sorted(variables_by_path(model).items()) if variable.trainable}


def _moving_statistics(base: keras.Model) -> Tensors:
    moving = {
        path: v for path, v in variables_by_path(base).items() if path.endswith(("moving_mean", "moving_variance"))
    }
    return values(moving)


def _assert_unmoved(before: Tensors, after: Tensors) -> None:
    moved = [path for path in before if before[path].tobytes() != after[path].tobytes()]
    assert not moved, f"batch norm statistics moved while frozen: {moved[:3]}"
