"""Makes the phases of a run: what both have in common, and the function of the network that each one trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.config import FineTunePhase, Job
from job.features.cache import FeatureCache
from job.features.dataset import Dataset
from job.model.cut import cut_named, split
from job.model.depthwise import call_with_fast_gradients
from job.model.flatten import call_frozen, flatten
from job.model.freezing import has_depthwise
from job.model.heads import head_logits
from job.model.network import Network, variables_by_path
from job.run.fake_gpu import fake_rate, fake_work
from job.run.strategy import use_jit
from job.training.optimization import make_optimizer
from job.training.phase import Phase
from job.training.phase_task import PhaseTask, WorkerContext
from job.training.step import Forward


@dataclass(frozen=True)
class Inputs:
    """The stored features on this node, by view, and where in the network they belong."""

    pooled: list[FeatureCache]
    fine_tune: list[FeatureCache]
    cut: str | None
    """The layer whose output `fine_tune` holds; None where it holds what is decoded."""


@dataclass(frozen=True)
class PhaseFactory:
    """Makes phases of one network on one data set. What is trainable when a phase is made is what it trains."""

    job: Job
    network: Network
    data: Dataset
    inputs: Inputs
    team: WorkerContext

    def head(self, trained: bool) -> Phase:
        """`trained`: whether the head was trained before, so that it may be the best as it is."""
        job, settings, head = self.job, self.job.phases.head, self.network.head
        task = PhaseTask(
            name="head",
            settings=settings,
            batch_size=job.train.batch_size,
            seed=job.train.seed,
            inputs=self.inputs.pooled,
            forward=self._on_gpus(head_forward(job, head), trainable(head)),
            optimizer=make_optimizer(settings, "head", trainable(head)),
            trained=trained,
            views=len(self.inputs.pooled),
            jit_compile=use_jit(job, depthwise=False),
        )
        return Phase(task, self.data, self.team)

    def fine_tune(
        self, settings: FineTunePhase, *, multipliers: Mapping[str, float] | None = None, blocks: int | None = None
    ) -> Phase:
        """`multipliers` are those of the learning rate, by layer; `blocks` is noted in the record of each epoch."""
        job, cut = self.job, self.inputs.cut
        forward, jit_compile = fine_tune_forward(job, self.network, cut)
        variables, by_layer = trainable(self.network.model), multipliers or {}
        by_path = {path: by_layer.get(path.partition("/")[0], 1.0) for path in variables}
        task = PhaseTask(
            name="fine_tune",
            settings=settings,
            batch_size=job.train.batch_size,
            seed=job.train.seed,
            inputs=self.inputs.fine_tune,
            forward=self._on_gpus(forward, variables),
            optimizer=make_optimizer(settings, "fine_tune", variables, multipliers=by_path),
            trained=True,
            views=job.train.views,
            augment=job.augment if cut is None and job.augment.active else None,
            jit_compile=jit_compile,
            blocks=blocks,
        )
        return Phase(task, self.data, self.team)

    def _on_gpus(self, forward: Forward, variables: Mapping[str, keras.Variable]) -> Forward:
        """The function of the network; a sleep where it would be computed by GPUs that are fake."""
        rate = fake_rate(self.job)
        return forward if rate is None else sleeping_forward(rate, variables, self.network.head.output_shape[-1])


def fine_tune_forward(job: Job, network: Network, cut: str | None) -> tuple[Forward, bool]:
    """Takes what is stored at the cut, or what is decoded where there is none; and whether XLA compiles it."""
    on_features = head_forward(job, network.head)
    call = call_frozen if job.scaling.gpu else call_with_fast_gradients
    rest = network.base if cut is None else split(network.base, cut_named(network.base, cut))[1]

    def forward(stored: tf.Tensor, dropout: Any) -> tf.Tensor:
        return on_features(flatten(rest, tf.cast(stored, rest.input.dtype), call), dropout)

    return forward, use_jit(job, has_depthwise(rest))


def sleeping_forward(rate: float, variables: Mapping[str, keras.Variable], classes: int) -> Forward:
    """Sleeps for as long as a network of this rate (examples a second) takes for forward and backward. All logits are
    the same, and the gradients of all variables zeros of their shapes.
    """

    def forward(stored: tf.Tensor, dropout: Any) -> tf.Tensor:
        first = tf.cast(tf.reshape(stored, [-1])[:1], tf.float32)  # so that it begins when the batch is there
        count = tf.shape(stored)[0]
        slept = tf.numpy_function(_sleep, [count, rate, first], tf.float32)
        touched = tf.add_n([tf.reduce_sum(variable.value) for variable in variables.values()])
        return tf.fill([count, classes], 0.0 * touched + tf.ensure_shape(slept, []))

    return forward


def _sleep(examples: int, rate: float, _: Any) -> np.float32:
    fake_work(int(examples), float(rate))
    return np.float32(0)


def head_forward(job: Job, head: keras.Model) -> Forward:
    """Takes pooled features."""

    def forward(features: tf.Tensor, dropout: Any) -> tf.Tensor:
        if dropout is None:
            return head(features, training=False)
        seed, positions = dropout
        return head_logits(head, features, seed, positions=positions, global_batch_size=job.train.batch_size)

    return forward


def trainable(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables that train, by path, in the order of their paths."""
    return {path: variable for path, variable in sorted(variables_by_path(model).items()) if variable.trainable}
