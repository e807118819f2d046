"""One step of training and of prediction under `tf.distribute`; Keras 3's `fit` does not work there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Forward = Callable[..., tf.Tensor]
"""(inputs, dropout) -> logits float32 [n, classes]; `dropout` is (seed int32 [2], positions) or None for inference."""


def make_train_step(
    strategy: tf.distribute.Strategy,
    forward: Forward,
    variables: list[keras.Variable],
    optimizer: keras.optimizers.Optimizer,
    jit_compile: bool,
) -> Callable[..., tf.Tensor]:
    """A compiled step: (inputs, labels int32 [n], weights float32 [n], seed int32 [2], positions int32 [n]) -> loss.

    The arguments are this worker's part of the global batch. `weights` are divided by their sum over the global
    batch, so the returned loss is the weighted mean over all workers and does not depend on how many there are.
    Only `variables` get gradients; the optimizer sums them over the workers.
    """

    def gradients(inputs: Any, labels: Any, weights: Any, seed: Any, positions: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = forward(inputs, (seed, positions))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            loss = tf.reduce_sum(losses * weights)
        return loss, tape.gradient(loss, [variable.value for variable in variables])

    compiled = tf.function(gradients, jit_compile=True) if jit_compile else gradients

    def replica_step(*batch: Any) -> tf.Tensor:
        loss, grads = compiled(*batch)
        optimizer.apply(grads, variables)
        return loss

    @tf.function
    def step(*batch: Any) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, batch), axis=None)

    return step


def make_predict_step(strategy: tf.distribute.Strategy, forward: Forward) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled step: this worker's inputs -> the logits of all workers by rank, float32 [world * n, classes]."""

    @tf.function
    def step(inputs: tf.Tensor) -> tf.Tensor:
        def replica_step(inputs: tf.Tensor) -> tf.Tensor:
            logits = forward(inputs, None)
            return tf.distribute.get_replica_context().all_gather(logits, axis=0)

        return strategy.experimental_local_results(strategy.run(replica_step, (inputs,)))[0]

    return step
