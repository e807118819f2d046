"""Steps of training and of prediction under `tf.distribute`; Keras 3's `fit` does not work there.

Many steps are one call. Each worker has its own copy of the variables, which begin as equals and make the same steps:
only the sum of the gradients travels. Loops are written out: AutoGraph would read all code that is called in them, for
longer than a small head trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from job.training.optimization import PhaseOptimizer

Forward = Callable[..., tf.Tensor]
"""(inputs, dropout) -> logits float32 [n, classes]; `dropout` is (seed int32 [2], places) or None for inference."""
BatchIterator = Iterator[tuple[tf.Tensor, ...]]
"""inputs, labels int32 [n], weights float32 [n], places int32 [n], …, proof int64 [2]: see `Batches`."""


class StepInputs(NamedTuple):
    """What k steps take besides their batches."""

    learning_rates: tf.Tensor
    """float32 [k]"""
    seeds: tf.Tensor
    """int32 [k, 2]"""
    votes: tf.Tensor
    """This worker's, float32 [m]."""


class StepResults(NamedTuple):
    """What k steps come to."""

    losses: tf.Tensor
    """float32 [k]: each is the weighted mean over all workers."""
    proof: tf.Tensor
    """int64 [2]: the sum of the proofs of this worker's batches."""
    votes: tf.Tensor
    """float32 [m]: the sum over all workers."""
    waits: tf.Tensor
    """float64 [2]: seconds of the k steps together for batches, and for the sum over the workers; 0 where ops are
    deterministic."""


def make_train_steps(
    strategy: tf.distribute.Strategy,
    batches: tf.TypeSpec,
    *,
    forward: Forward,
    optimizer: PhaseOptimizer,
    jit_compile: bool,
    smoothing: float,
) -> Callable[[BatchIterator, StepInputs], StepResults]:
    """Compiled steps, once for all `batches` of this type and for any number of steps.

    The weights of a batch are divided by their sum over the global batch, so that a loss is the weighted mean over all
    workers and does not depend on how many there are. The votes travel with the gradients. `smoothing` is the share of
    each label that is spread evenly over the classes (Szegedy et al. 2016).
    """
    gradients = _make_gradients(forward, list(optimizer.variables.values()), smoothing)
    if jit_compile:
        gradients = tf.function(gradients, jit_compile=True, autograph=False)
    numbers, pairs = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, 2], tf.int32)

    @tf.function(input_signature=[batches, StepInputs(numbers, pairs, numbers)], autograph=False)
    def steps(batches: BatchIterator, inputs: StepInputs) -> StepResults:
        def one(k: tf.Tensor, losses: tf.TensorArray, proof: Any, _: tf.Tensor, waits: tf.Tensor) -> tuple[Any, ...]:
            asked = _time_after(waits)
            with tf.control_dependencies([asked]):
                *batch, read = next(batches)
            read_wait = _time_after(read) - asked
            loss, grads = gradients(inputs.seeds[k], batch)
            total = _sum_over_workers(strategy, loss, grads, votes=inputs.votes)
            optimizer.apply(total.gradients, inputs.learning_rates[k])
            waits += tf.stack([read_wait, total.wait])
            return k + 1, losses.write(k, total.loss), proof + read, total.votes, waits

        count = tf.shape(inputs.learning_rates)[0]
        losses = tf.TensorArray(tf.float32, count)
        start = tf.constant(0), losses, tf.zeros([2], tf.int64), inputs.votes, tf.zeros([2], tf.float64)
        _, losses, proof, votes, waits = tf.while_loop(lambda k, *_: k < count, one, start)
        return StepResults(losses.stack(), proof, votes, waits)

    return steps


def _make_gradients(forward: Forward, variables: list[keras.Variable], smoothing: float) -> Callable[..., Any]:
    """(seed, a batch without its proof) -> this worker's part of the loss, float32 [], and the gradients of it."""

    def gradients(seed: tf.Tensor, batch: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        inputs, labels, weights, places, *partners = batch
        targets = [(labels, weights)]
        if partners:
            inputs, targets = _mixed(inputs, labels, weights, partners=Partners(*partners))
        with tf.GradientTape() as tape:
            logits = forward(inputs, (seed, places))
            losses = [tf.reduce_sum(_cross_entropy(y, logits, smoothing) * weight) for y, weight in targets]
            loss = tf.add_n(losses)
        grads = tape.gradient(loss, [variable.value for variable in variables])
        return loss, [tf.convert_to_tensor(grad) for grad in grads]  # that of a table has the rows used alone

    return gradients


class Total(NamedTuple):
    """The sum over all workers."""

    loss: tf.Tensor
    gradients: list[tf.Tensor]
    votes: tf.Tensor
    wait: tf.Tensor
    """Seconds that it took, float64 []."""


def _sum_over_workers(
    strategy: tf.distribute.Strategy, loss: tf.Tensor, gradients: list[tf.Tensor], *, votes: tf.Tensor
) -> Total:
    """All in one vector: one message."""
    shapes = [gradient.shape for gradient in gradients]
    flat = tf.concat([*(tf.reshape(gradient, [-1]) for gradient in gradients), loss[None], votes], axis=0)
    sizes = [*(shape.num_elements() for shape in shapes), 1, -1]
    asked = _time_after(flat)
    total = _sum(strategy, flat)
    wait = _time_after(total) - asked
    *parts, losses, votes = tf.split(total, sizes)
    summed = [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
    return Total(losses[0], summed, votes, wait)


def _time_after(tensor: tf.Tensor) -> tf.Tensor:
    """When a vector is there, in seconds, float64 []: on the CPU, so that what a GPU has begun is waited for. Where ops
    are deterministic TensorFlow refuses to look at the clock, and it is always 0.
    """
    if is_op_determinism_enabled():
        return tf.zeros([], tf.float64)
    with tf.device("CPU"), tf.control_dependencies([tf.identity(tensor[:1])]):
        return tf.timestamp()


class Partners(NamedTuple):
    """The examples that those of a batch are mixed with, in the order of the batch."""

    inputs: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    kept: tf.Tensor
    """float32 [n]: the share of the batch's own example in each row."""


def _mixed(
    inputs: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, *, partners: Partners
) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
    """Inputs float32 [n, …], and the labels that they stand for with the weight of each (Zhang et al. 2018, "mixup:
    Beyond Empirical Risk Minimization").
    """
    kept = partners.kept
    shares = tf.reshape(kept, [-1, *[1] * (len(inputs.shape) - 1)])
    mixed = shares * tf.cast(inputs, tf.float32) + (1 - shares) * tf.cast(partners.inputs, tf.float32)
    return mixed, [(labels, weights * kept), (partners.labels, partners.weights * (1 - kept))]


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """The cross entropy of each example, float32 [n]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if not smoothing:
        return losses
    even = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
    return (1 - smoothing) * losses + smoothing * even


def make_predict_steps(
    strategy: tf.distribute.Strategy, batches: tf.TypeSpec, *, forward: Forward, rank: int
) -> Callable[[BatchIterator, tf.Tensor], tf.Tensor]:
    """Compiled steps: k of this worker's batches -> every worker's logits by rank, float32 [world, k, n, classes]."""

    @tf.function(input_signature=[batches, tf.TensorSpec([], tf.int32)], autograph=False)
    def steps(batches: BatchIterator, count: tf.Tensor) -> tf.Tensor:
        def one(k: tf.Tensor, logits: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return k + 1, logits.write(k, forward(next(batches)[0], None))

        nothing = tf.constant(0), tf.TensorArray(tf.float32, count)
        _, logits = tf.while_loop(lambda k, _: k < count, one, nothing)
        ranks = _gather(strategy, tf.constant([rank]))  # TensorFlow's order is that of names: 0, 1, 10, 2, …
        return tf.gather(_gather(strategy, logits.stack()[None]), tf.argsort(ranks))

    return steps


def make_sum(strategy: tf.distribute.Strategy) -> Callable[[np.ndarray], np.ndarray]:
    """Adds up int64 [n] of every worker, modulo 2**64: a barrier."""
    spec = tf.TensorSpec([None], tf.int64)
    add = tf.function(lambda numbers: _sum(strategy, numbers), input_signature=[spec], autograph=False)
    return lambda numbers: add(tf.constant(numbers)).numpy()


def _sum(strategy: tf.distribute.Strategy, tensor: tf.Tensor) -> tf.Tensor:
    def all_reduce(value: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    return strategy.run(all_reduce, (tensor,)) if strategy.num_replicas_in_sync > 1 else tensor


def _gather(strategy: tf.distribute.Strategy, tensor: tf.Tensor) -> tf.Tensor:
    def all_gather(value: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(value), axis=0)

    return strategy.run(all_gather, (tensor,)) if strategy.num_replicas_in_sync > 1 else tensor
