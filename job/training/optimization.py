"""How a phase moves its variables: the optimizer, and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from job.config import Optimization

RISE = 0.3
"""The part of the steps in which the rate of a `one_cycle` schedule rises."""
FIRST, LAST = 1 / 25, 1 / 250_000
"""Where it begins and ends, as fractions of the learning rate."""


def make_optimizer(
    settings: Optimization, name: str, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Built for these variables; its slots have the same paths in every process. Each step sets its learning rate.

    Weight decay is for matrices and kernels only (He et al. 2019, "Bag of Tricks"): biases, and the scales and offsets
    of normalization, are vectors.
    """
    if settings.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, name=name)
    elif settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(name=name)
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=settings.weight_decay, name=name)
        optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    optimizer.build(variables)
    return optimizer


def learning_rate(settings: Optimization, highest: float, step: int, steps: int, per_epoch: int) -> float:
    """The learning rate of the phase's step `step`, counted from 0, of `steps`; `highest` is the schedule's highest.

    `cosine` (Loshchilov and Hutter 2017) falls by half a cosine to 0. `one_cycle` (Smith and Topin 2018) rises by half
    a cosine from 1/25 of the rate, in 0.3 of the steps, and falls by another one to nearly nothing; momentum stays as
    it is. With `warmup_epochs` the rate first rises in a straight line to that of the schedule (Goyal et al. 2017).
    """
    rate, done = highest, step / steps
    if settings.schedule == "cosine":
        rate *= _between(1.0, 0.0, done)
    elif settings.schedule == "one_cycle":
        rate *= _between(FIRST, 1.0, done / RISE) if done < RISE else _between(1.0, LAST, (done - RISE) / (1 - RISE))
    warmup = settings.warmup_epochs * per_epoch
    return rate * (step + 1) / (warmup + 1) if step < warmup else rate


def _between(first: float, last: float, done: float) -> float:
    """By half a cosine."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
