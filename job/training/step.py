"""Steps of training and of prediction under `tf.distribute`; Keras 3's `fit` does not work there.

Many steps are one call. Each worker has its own copy of the variables, which begin as equals and make the same steps:
only the sum of the gradients travels. Loops are written out: AutoGraph would read all code that is called in them, for
longer than a small head trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

Forward = Callable[..., tf.Tensor]
"""(inputs, dropout) -> logits float32 [n, classes]; `dropout` is (seed int32 [2], places) or None for inference."""
Batches = Iterator[tuple[tf.Tensor, ...]]
"""inputs, labels int32 [n], weights float32 [n], places int32 [n], …, proof int64 [2]: see `Batches`."""


def make_train_steps(
    strategy: tf.distribute.Strategy,
    batches: tf.TypeSpec,
    forward: Forward,
    variables: list[keras.Variable],
    optimizer: keras.optimizers.Optimizer,
    jit_compile: bool,
    rates: Sequence[float],
    smoothing: float,
) -> Callable[[Batches, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Compiled steps: (batches, learning rates [k], seeds int32 [k, 2], votes [m]) -> losses [k], proof, votes [m],
    waits float64 [2].

    They are compiled once, for whatever k and for all `batches` of this type. Takes k of this worker's batches; all
    else is float32. The weights of a batch are divided by their sum over the global batch, so that a loss is the
    weighted mean over all workers and does not depend on how many there are. The proof, the sum of those of the
    batches, is of this worker alone. The votes come back as the sum over all workers: they travel with the gradients.
    The waits are seconds of all k steps together, for batches and for the sum over the workers; 0 where ops are
    deterministic.
    `rates` has a factor for the learning rate of each variable; `smoothing` is the share of each label
    that is spread evenly over the classes (Szegedy et al. 2016).
    """

    def gradients(seed: Any, inputs: Any, labels: Any, weights: Any, places: Any, *others: Any) -> Any:
        aims = [(labels, weights)]
        if others:
            inputs, aims = _mixed(inputs, labels, weights, *others)
        with tf.GradientTape() as tape:
            logits = forward(inputs, (seed, places))
            losses = [tf.reduce_sum(_cross_entropy(aim, logits, smoothing) * weight) for aim, weight in aims]
            loss = tf.add_n(losses)
        grads = tape.gradient(loss, [variable.value for variable in variables])
        return loss, [tf.convert_to_tensor(grad) for grad in grads]  # that of a table has the rows used alone

    compiled: Callable[..., Any] = (
        tf.function(gradients, jit_compile=True, autograph=False) if jit_compile else gradients
    )

    def step(batch: list[tf.Tensor], seed: Any, votes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        loss, grads = compiled(seed, *batch)
        shapes = [grad.shape for grad in grads]
        flat = tf.concat([*(tf.reshape(grad, [-1]) for grad in grads), loss[None], votes], axis=0)
        sizes = [*(shape.num_elements() for shape in shapes), 1, -1]
        asked = _time_after(flat)
        total = _sum(strategy, flat)
        waited = _time_after(total) - asked
        *parts, loss, votes = tf.split(total, sizes)
        slower = [(v, rate, tf.identity(v.value)) for v, rate in zip(variables, rates, strict=True) if rate != 1]
        optimizer.apply([tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)], variables)
        for variable, rate, before in slower:  # every optimizer's step is proportional to its learning rate
            variable.assign(before + rate * (variable.value - before))
        return loss[0], votes, waited

    numbers, pairs = tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, 2], tf.int32)

    @tf.function(input_signature=[batches, numbers, pairs, numbers], autograph=False)
    def steps(
        batches: Batches, learning_rates: tf.Tensor, seeds: tf.Tensor, votes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        def one(
            k: tf.Tensor, losses: tf.TensorArray, proof: tf.Tensor, summed: tf.Tensor, waits: tf.Tensor
        ) -> tuple[Any, ...]:
            asked = _time_after(waits)
            with tf.control_dependencies([asked]):
                *batch, read = next(batches)
            read_after = _time_after(read) - asked
            optimizer.learning_rate = learning_rates[k]
            loss, summed, waited = step(batch, seeds[k], votes)
            return k + 1, losses.write(k, loss), proof + read, summed, waits + tf.stack([read_after, waited])

        count = tf.shape(learning_rates)[0]
        losses = tf.TensorArray(tf.float32, count)
        nothing = tf.constant(0), losses, tf.zeros([2], tf.int64), votes, tf.zeros([2], tf.float64)
        _, losses, proof, summed, waits = tf.while_loop(lambda k, *_: k < count, one, nothing)
        return losses.stack(), proof, summed, waits

    return steps


def _time_after(tensor: tf.Tensor) -> tf.Tensor:
    """When a vector is there, in seconds, float64 []: on the CPU, so that what a GPU has begun is waited for. Where ops
    are deterministic TensorFlow refuses to look at the clock, and it is always 0.
    """
    if is_op_determinism_enabled():
        return tf.zeros([], tf.float64)
    with tf.device("CPU"), tf.control_dependencies([tf.identity(tensor[:1])]):
        return tf.timestamp()


def _mixed(
    inputs: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
    others: Any,
    other_labels: Any,
    other_weights: Any,
    kept: Any,
) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
    """Inputs float32 [n, …], and the labels that they stand for with the weight of each (Zhang et al. 2018, "mixup:
    Beyond Empirical Risk Minimization"). `kept` float32 [n] is the share of the first in each row.
    """
    shares = tf.reshape(kept, [-1, *[1] * (len(inputs.shape) - 1)])
    mixed = shares * tf.cast(inputs, tf.float32) + (1 - shares) * tf.cast(others, tf.float32)
    return mixed, [(labels, weights * kept), (other_labels, other_weights * (1 - kept))]


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor, smoothing: float) -> tf.Tensor:
    """The cross entropy of each example, float32 [n]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if not smoothing:
        return losses
    even = tf.reduce_logsumexp(logits, axis=1) - tf.reduce_mean(logits, axis=1)
    return (1 - smoothing) * losses + smoothing * even


def make_predict_steps(
    strategy: tf.distribute.Strategy, batches: tf.TypeSpec, forward: Forward, rank: int
) -> Callable[[Batches, tf.Tensor], tf.Tensor]:
    """Compiled steps: k of this worker's batches -> every worker's logits by rank, float32 [world, k, n, classes]."""

    @tf.function(input_signature=[batches, tf.TensorSpec([], tf.int32)], autograph=False)
    def steps(batches: Batches, count: tf.Tensor) -> tf.Tensor:
        def one(k: tf.Tensor, logits: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return k + 1, logits.write(k, forward(next(batches)[0], None))

        answers = tf.constant(0), tf.TensorArray(tf.float32, count)
        _, logits = tf.while_loop(lambda k, _: k < count, one, answers)
        ranks = _gather(strategy, tf.constant([rank]))  # TensorFlow's order is that of names: 0, 1, 10, 2, …
        return tf.gather(_gather(strategy, logits.stack()[None]), tf.argsort(ranks))

    return steps


def make_sum(strategy: tf.distribute.Strategy) -> Callable[[np.ndarray], np.ndarray]:
    """Adds up int64 [n] of every worker, modulo 2**64: a barrier."""
    spec = tf.TensorSpec([None], tf.int64)
    add = tf.function(lambda numbers: _sum(strategy, numbers), input_signature=[spec], autograph=False)
    return lambda numbers: add(tf.constant(numbers)).numpy()


def _sum(strategy: tf.distribute.Strategy, tensor: tf.Tensor) -> tf.Tensor:
    def all_reduce(mine: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(mine))

    return strategy.run(all_reduce, (tensor,)) if strategy.num_replicas_in_sync > 1 else tensor


def _gather(strategy: tf.distribute.Strategy, tensor: tf.Tensor) -> tf.Tensor:
    def all_gather(mine: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(tf.identity(mine), axis=0)

    return strategy.run(all_gather, (tensor,)) if strategy.num_replicas_in_sync > 1 else tensor
