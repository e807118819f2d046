"""One phase of training: epochs of equal work for every worker, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.config import Augment, Optimization
from job.data import order
from job.data.augment import Flips
from job.data.dataset import Dataset
from job.errors import TrainingError
from job.train.checkpoint import Checkpoint, Progress, Tensors, restore, values
from job.train.convergence import EarlyStopping
from job.train.step import Forward, make_predict_step, make_train_step

PREFETCH = 2
"""Batches that are read ahead of the step."""
PHASE_STREAMS = {"head": 0, "fine_tune": 2**20}
"""Added to the epoch, so that the phases draw different orders."""


@dataclass(frozen=True)
class Team:
    """This worker among the others. `save` is a barrier: every worker calls it equally often."""

    rank: int
    world_size: int
    strategy: tf.distribute.Strategy
    save: Callable[[Checkpoint], None]
    say: Callable[..., None]
    """Sends an event (kind, fields) to the driver, from rank 0 only."""


@dataclass(frozen=True)
class PhaseTask:
    """What a phase trains, on what, and how."""

    name: str
    settings: Optimization
    batch_size: int
    seed: int
    inputs: np.ndarray
    """[n, …], what `forward` takes, in the order of the data set."""
    forward: Forward
    variables: dict[str, keras.Variable]
    """The trainable ones, by path."""
    augment: Augment | None = None
    jit_compile: bool = False


class Phase:
    """Trains `task.variables` on the data set's train split."""

    def __init__(self, task: PhaseTask, data: Dataset, team: Team) -> None:
        self.task, self.data, self.team = task, data, team
        self.train = data.splits["train"]
        self.steps = order.steps_per_epoch(len(self.train), task.batch_size)
        variables = list(task.variables.values())
        assert variables, f"{task.name}: nothing is trainable"
        with team.strategy.scope():
            self.optimizer = make_optimizer(task.settings)
            self.optimizer.build(variables)
        self.slots = {v.path: v for v in self.optimizer.variables if v is not self.optimizer._learning_rate}
        self.train_step = make_train_step(team.strategy, task.forward, variables, self.optimizer, task.jit_compile)
        self.predict_step = make_predict_step(team.strategy, task.forward)

    def run(self, resumed: Checkpoint | None, history: dict[str, list[dict[str, Any]]], head: Tensors) -> Checkpoint:
        """Runs (the rest of) the phase and returns its last checkpoint; the variables are left at their best."""
        state = self._restored(resumed) if resumed else self._fresh(history, head)
        while not state.progress.finished:
            state = self._epoch(state)
            self.team.save(state)
        restore(self.task.variables, state.best, self.task.name, lambda line: self.team.say("note", text=line))
        return state

    def predict(self, examples: np.ndarray) -> np.ndarray:
        """Logits of these examples (int64 [n]) in their order, float32 [n, classes], the same on every worker."""
        size, results = self.task.batch_size, []
        for step, (inputs, _, _, _) in enumerate(self._batches(examples, None)):
            logits = self.predict_step(tf.constant(inputs)).numpy()
            results.append(logits[: len(order.global_batch(examples, step, size))])
        return np.concatenate(results)

    def validate(self) -> tuple[float, float]:
        """Weighted mean cross-entropy and accuracy on the validation split."""
        examples = self.data.splits["validation"]
        return loss_and_accuracy(self.predict(examples), self.data.labels[examples], self.data.weights[examples])

    def _fresh(self, history: dict[str, list[dict[str, Any]]], head: Tensors) -> Checkpoint:
        """The state before the first epoch, whose model counts as the best so far where one was trained before."""
        stopping = EarlyStopping(self.task.settings.patience)
        if head:
            loss, accuracy = self.validate()
            stopping = stopping.after(0, loss)
            record = {"epoch": 0, "validation_loss": loss, "validation_accuracy": accuracy}
            history = {**history, self.task.name: [record]}
            self.team.say("epoch", phase=self.task.name, **record)
        now = values(self.task.variables)
        return Checkpoint(Progress(self.task.name, 0, False, stopping, history), now, now, head, values(self.slots))

    def _restored(self, resumed: Checkpoint) -> Checkpoint:
        def say(line: str) -> None:
            self.team.say("note", text=line)

        restore(self.task.variables, resumed.weights, self.task.name, say)
        restore(self.slots, resumed.optimizer, f"{self.task.name} optimizer", say)
        return resumed

    def _epoch(self, state: Checkpoint) -> Checkpoint:
        started, name = time.monotonic(), self.task.name
        epoch = state.progress.epoch + 1
        loss = self._train_epoch(epoch)
        validation_loss, validation_accuracy = self.validate()
        if not math.isfinite(validation_loss):
            raise TrainingError(f"{name}: the validation loss is not finite after epoch {epoch}. {self._advice()}")
        stopping = state.progress.stopping.after(epoch, validation_loss)
        record = {
            "epoch": epoch,
            "loss": loss,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "learning_rate": self._learning_rate(epoch * self.steps - 1),
            "seconds": round(time.monotonic() - started, 3),
        }
        self.team.say("epoch", phase=name, epochs=self.task.settings.epochs, **record)
        history = {**state.progress.history, name: [*state.progress.history[name], record]}
        finished = stopping.converged or epoch >= self.task.settings.epochs
        weights = values(self.task.variables)
        return replace(
            state,
            progress=Progress(name, epoch, finished, stopping, history),
            weights=weights,
            best=weights if stopping.best_epoch == epoch else state.best,
            optimizer=values(self.slots),
        )

    def _train_epoch(self, epoch: int) -> float:
        """The epoch's weighted mean loss. Raises TrainingError naming the first step whose loss is not finite."""
        stream = PHASE_STREAMS[self.task.name] + epoch
        examples = self.train[order.epoch_order(len(self.train), self.task.seed, stream)]
        flips = None
        if self.task.augment is not None:
            flips = Flips(self.task.augment, len(self.data.labels), self.task.seed, stream)
        losses, sums = [], []
        for step, (inputs, labels, weights, positions) in enumerate(self._batches(examples, flips)):
            done = (epoch - 1) * self.steps + step
            if self.task.settings.schedule != "constant":
                self.optimizer.learning_rate = self._learning_rate(done)
            seed = tf.constant([self.task.seed, PHASE_STREAMS[self.task.name] * 2**10 % 2**31 + done], tf.int32)
            losses.append(self.train_step(inputs, labels, weights, seed, positions))
            sums.append(self.data.weights[order.global_batch(examples, step, self.task.batch_size)].sum())
        mean = np.array([loss.numpy() for loss in losses], np.float64)
        if not np.isfinite(mean).all():
            step = int(np.flatnonzero(~np.isfinite(mean))[0]) + 1
            raise TrainingError(
                f"{self.task.name}: the loss is not finite at step {step} of epoch {epoch}. {self._advice()}"
            )
        return float(np.average(mean, weights=sums))

    def _batches(self, examples: np.ndarray, flips: Flips | None) -> Iterator[tuple[Any, ...]]:
        """This worker's part of each global batch: inputs, labels, weights (0 where padded), positions."""
        steps = order.steps_per_epoch(len(examples), self.task.batch_size)

        def read(step: int) -> tuple[Any, ...]:
            batch = order.global_batch(examples, step, self.task.batch_size)
            mine, positions = order.local_batch(batch, self.task.batch_size, self.team.rank, self.team.world_size)
            inputs = self.task.inputs[mine]
            if flips is not None:
                inputs = flips(inputs, mine)
            weights = np.where(mine >= 0, self.data.weights[mine] / self.data.weights[batch].sum(), 0.0)
            arrays = (inputs, self.data.labels[mine], weights.astype(np.float32), positions.astype(np.int32))
            return tuple(tf.constant(array) for array in arrays)

        with ThreadPoolExecutor(1, "batches") as pool:
            ahead = [pool.submit(read, step) for step in range(min(PREFETCH, steps))]
            for step in range(steps):
                if step + PREFETCH < steps:
                    ahead.append(pool.submit(read, step + PREFETCH))
                yield ahead.pop(0).result()

    def _learning_rate(self, step: int) -> float:
        settings = self.task.settings
        if settings.schedule == "constant":
            return settings.learning_rate
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / (settings.epochs * self.steps)))

    def _advice(self) -> str:
        return f"Lower phases.{self.task.name}.learning_rate ({self.task.settings.learning_rate:g}) and run again."


def make_optimizer(settings: Optimization) -> keras.optimizers.Optimizer:
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(settings.learning_rate, momentum=0.9)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(settings.learning_rate)
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def loss_and_accuracy(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean cross-entropy and plain accuracy of logits float32 [n, classes]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float(np.average(losses, weights=weights)), float(np.mean(logits.argmax(axis=1) == labels))
