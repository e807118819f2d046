"""How a phase moves its variables: the optimizer, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from job.config import Optimization

RISE = 0.3
"""The part of the steps in which the rate of a `one_cycle` schedule rises."""
FIRST, LAST = 1 / 25, 1 / 250_000
"""Where it begins and ends, as fractions of the learning rate."""


@dataclass(frozen=True)
class PhaseOptimizer:
    """A Keras optimizer that is built for some variables, each of which learns at its own multiple of the rate."""

    optimizer: keras.optimizers.Optimizer
    variables: dict[str, keras.Variable]
    """By path."""
    multipliers: Mapping[str, float] = field(default_factory=dict)
    """By path; a variable that is not named learns at the rate itself."""

    @property
    def slots(self) -> dict[str, keras.Variable]:
        """The moments and the count of steps, by path: all that the next step depends on."""
        return {v.path: v for v in self.optimizer.variables if v is not self.optimizer._learning_rate}

    @property
    def moments(self) -> dict[str, keras.Variable]:
        """The slots but for the count of steps."""
        return {path: slot for path, slot in self.slots.items() if slot is not self.optimizer.iterations}

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """One step: a gradient for each variable, in the order of `variables`."""
        variables = list(self.variables.values())
        self.optimizer.learning_rate = learning_rate
        scaled = [
            (variable, self.multipliers[path], tf.identity(variable.value))
            for path, variable in self.variables.items()
            if self.multipliers.get(path, 1) != 1
        ]
        self.optimizer.apply(gradients, variables)
        for variable, multiplier, before in scaled:  # every optimizer's step is proportional to its learning rate
            variable.assign(before + multiplier * (variable.value - before))


def make_optimizer(
    settings: Optimization,
    name: str,
    variables: dict[str, keras.Variable],
    *,
    multipliers: Mapping[str, float] | None = None,
) -> PhaseOptimizer:
    """Built for these variables; its slots have the same paths in every process. Each step sets its learning rate.

    Weight decay is for matrices and kernels only (He et al. 2019, "Bag of Tricks"): biases, and the scales and offsets
    of normalization, are vectors.
    """
    assert variables, f"{name}: nothing is trainable"
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, name=name)
    elif settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(name=name)
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, name=name)
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables.values() if len(v.shape) < 2])
    optimizer.build(list(variables.values()))
    return PhaseOptimizer(optimizer, variables, multipliers or {})


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step of a phase.

    `cosine` (Loshchilov and Hutter 2017) falls by half a cosine to 0. `one_cycle` (Smith and Topin 2018) rises by half
    a cosine from 1/25 of the rate, in 0.3 of the steps, and falls by another one to nearly nothing; momentum stays as
    it is. With `warmup_epochs` the rate first rises in a straight line to that of the schedule (Goyal et al. 2017).
    """

    settings: Optimization
    highest: float
    steps_per_epoch: int
    first_step: int = 0
    """The number of the phase's first step."""

    def rate(self, step: int) -> float:
        """The learning rate of the step with this number."""
        settings, step = self.settings, step - self.first_step
        rate, progress = self.highest, step / (settings.epochs * self.steps_per_epoch)
        if settings.schedule == "cosine":
            rate *= _half_cosine(1.0, 0.0, progress)
        elif settings.schedule == "one_cycle" and progress < RISE:
            rate *= _half_cosine(FIRST, 1.0, progress / RISE)
        elif settings.schedule == "one_cycle":
            rate *= _half_cosine(1.0, LAST, (progress - RISE) / (1 - RISE))
        warmup = settings.warmup_epochs * self.steps_per_epoch
        return rate * (step + 1) / (warmup + 1) if step < warmup else rate


def _half_cosine(first: float, last: float, progress: float) -> float:
    """From `first`, at a progress of 0, to `last`, at 1."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))
