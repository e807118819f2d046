"""One phase of training: epochs of equal work for every worker, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from job.config import Augment, Optimization
from job.data import order
from job.data.arena import Arena
from job.data.dataset import Dataset
from job.errors import TrainingError
from job.train.batches import CHUNK, Batches, fresh_view
from job.train.checkpoint import Checkpoint, Progress, Tensors, restore, values
from job.train.convergence import EarlyStopping
from job.train.step import Forward, make_predict_steps, make_sum, make_train_steps

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
    inputs: list[Arena]
    """What `forward` takes, by view."""
    forward: Forward
    variables: dict[str, keras.Variable]
    """The trainable ones, by path."""
    views: int = 1
    augment: Augment | None = None
    """Changes images on their way to the network; None where stored views are read, or nothing is changed."""
    jit_compile: bool = False


class Phase:
    """Trains `task.variables` on the data set's train split."""

    def __init__(self, task: PhaseTask, data: Dataset, team: Team) -> None:
        self.task, self.data, self.team = task, data, team
        self.train, self.sizes = data.splits["train"], data.sizes("train")
        self.share = order.Share(task.batch_size, team.rank, team.world_size)
        self.steps = order.steps_per_epoch(len(self.train), task.batch_size)
        variables = list(task.variables.values())
        assert variables, f"{task.name}: nothing is trainable"
        self.optimizer = make_optimizer(task.settings)
        self.optimizer.build(variables)
        self.slots = {v.path: v for v in self.optimizer.variables if v is not self.optimizer._learning_rate}
        self.train_steps = make_train_steps(team.strategy, task.forward, variables, self.optimizer, task.jit_compile)
        self.predict_steps = make_predict_steps(team.strategy, task.forward)
        self.plain = Batches(task.inputs[0], data, self.share)
        self.views = [Batches(arena, data, self.share, task.augment) for arena in task.inputs]
        self.sum = make_sum(team.strategy)

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
        size, world_size = self.task.batch_size, self.team.world_size
        steps = order.steps_per_epoch(len(examples), size)
        shares = [order.Share(size, rank, world_size) for rank in range(world_size)]
        rows = np.stack([share.places(len(examples), 0, steps)[0] for share in shares])
        answers = self._guarded(self.plain, self.predict_steps, self.plain.read(examples), tf.constant(steps)).numpy()
        logits = np.empty([len(examples), answers.shape[-1]], np.float32)
        logits[rows[rows >= 0]] = answers[rows >= 0]
        return logits

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
        loss, digest = self._train_epoch(epoch)
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
            "examples": len(self.train),
            "digest": digest,
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

    def _train_epoch(self, epoch: int) -> tuple[float, str]:
        """The epoch's weighted mean loss, and the digest of the examples that all workers have seen.

        Raises TrainingError naming the first step whose loss is not finite, or where the digest is not the data set's.
        """
        stream = PHASE_STREAMS[self.task.name] + epoch
        size = self.task.batch_size
        examples = self.train[order.epoch_order(self.sizes, size, self.task.seed, stream)]
        view = (epoch - 1) % self.task.views
        reader = self.views[view if len(self.views) > 1 else 0]
        if self.task.augment is not None and self.task.views == 1:
            view = fresh_view(self.task.seed, stream)
        elif view == 0:
            reader = self.plain
        batches, losses, seen = reader.read(examples, view), [], np.zeros(2, np.int64)
        for first in range(0, self.steps, CHUNK):
            done = (epoch - 1) * self.steps + np.arange(first, min(first + CHUNK, self.steps))
            rates = tf.constant([self._learning_rate(int(step)) for step in done], tf.float32)
            draws = PHASE_STREAMS[self.task.name] * 2**10 % 2**31 + done
            seeds = tf.constant([[self.task.seed, draw] for draw in draws], tf.int32)
            some, read = self._guarded(reader, self.train_steps, batches, rates, seeds)
            losses.append(some.numpy())
            seen += read.numpy()
        mean = np.concatenate(losses).astype(np.float64)
        if not np.isfinite(mean).all():
            step = int(np.flatnonzero(~np.isfinite(mean))[0]) + 1
            raise TrainingError(
                f"{self.task.name}: the loss is not finite at step {step} of epoch {epoch}. {self._advice()}"
            )
        sums = np.add.reduceat(self.data.weights[examples], np.arange(0, len(examples), size))
        return float(np.average(mean, weights=sums)), self._proof(epoch, seen)

    def _proof(self, epoch: int, seen: np.ndarray) -> str:
        """The digest of an epoch: the sum of the ids of its examples, whatever their order and whoever read them."""
        read, wrong = self.sum(seen).astype(np.uint64).tolist()
        wanted = int(self.data.ids[self.train].sum(dtype=np.int64).astype(np.uint64))
        if read != wanted or wrong:
            raise TrainingError(
                f"{self.task.name}: the examples read in epoch {epoch} (digest {read:016x}, {wrong} out of place) are "
                f"not those of the data set ({wanted:016x}): delete the nodes' copies of the features (THAW_CACHE) and "
                "run again."
            )
        return f"{read:016x}"

    def _guarded(self, reader: Batches, steps: Callable[..., Any], *arguments: Any) -> Any:
        """Raises what made the reader fail as it was."""
        try:
            return steps(*arguments)
        except tf.errors.OpError as error:
            raise reader.error(error) from None

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
