"""One phase of training: epochs of equal work for every worker, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from job.data import order
from job.errors import Interrupted, NotFinite
from job.features.dataset import Dataset
from job.run.events import EpochEnded, Noted, StepsMade, WeightsMeasured
from job.training.batches import CHUNK, Batches, fresh_view, proven
from job.training.checkpoint import Checkpoint, History, Progress, Tensors, Thawing, restore, values
from job.training.control import VOTES
from job.training.convergence import EarlyStopping
from job.training.measure import histogram, loss_and_accuracy
from job.training.optimization import learning_rate, make_optimizer
from job.training.phase_task import PhaseTask, WorkerContext
from job.training.range_test import CYCLE, RATES, range_test
from job.training.step import make_predict_steps, make_sum, make_train_steps

PHASE_STREAMS = {"head": 0, "fine_tune": 2**20}
"""Added to the epoch, so that the phases draw different orders."""


class Phase:
    """Trains `task.variables` on the data set's train split."""

    def __init__(self, task: PhaseTask, data: Dataset, team: WorkerContext) -> None:
        self.task, self.data, self.team = task, data, team
        self.train, self.sizes = data.splits["train"], data.sizes("train")
        self.share = order.WorkerShare(task.batch_size, team.rank, team.world_size)
        self.steps = order.steps_per_epoch(len(self.train), task.batch_size)
        variables = list(task.variables.values())
        assert variables, f"{task.name}: nothing is trainable"
        self.optimizer = make_optimizer(task.settings, task.name, variables)
        self.slots = {v.path: v for v in self.optimizer.variables if v is not self.optimizer._learning_rate}
        self.plain = Batches(task.inputs[0], data, self.share)
        mixes = task.settings.mixup > 0
        self.views = [Batches(cache, data, self.share, task.augment, mixes) for cache in task.inputs]
        self.unchanged = Batches(task.inputs[0], data, self.share, mixes=True) if mixes else self.plain
        rates = [task.rates.get(path, 1.0) for path in task.variables]
        how = task.forward, variables, self.optimizer, task.jit_compile, rates, task.settings.label_smoothing
        self.train_steps = make_train_steps(team.strategy, self.unchanged.spec, *how)
        self.predict_steps = make_predict_steps(team.strategy, self.plain.spec, task.forward, team.rank)
        self.sum = make_sum(team.strategy)
        self._due = False
        self._rate = 0.0

    def begin(
        self, before: Progress | None, head: Tensors, thawing: Thawing | None = None, slots: Tensors | None = None
    ) -> Checkpoint:
        """The state before the first epoch. `before` is how far training came before it; `slots` are those of the
        optimizer before, by path.
        """
        name, after = self.task.name, self.task.after
        empty: History = {"head": [], "fine_tune": []}
        history, tests = (before.history, before.range_tests) if before else (empty, {})
        stopping = EarlyStopping(self.task.settings.patience)
        if self.task.trained:
            loss, accuracy = self.validate()
            stopping = stopping.after(after, loss)
            if not after:
                record: dict[str, Any] = {"epoch": 0, "validation_loss": loss, "validation_accuracy": accuracy}
                history = {**history, name: [record]}
                self.team.emit(EpochEnded(phase=name, **record))
        if self.task.settings.learning_rate == "auto" and name not in tests:
            tests = {**tests, name: self._range_test()}
            self.team.emit(Noted(f"{name}: the learning rate is {tests[name]['learning_rate']:.2g} (range test)"))
        carried = {path: value for path, value in (slots or {}).items() if path != self.optimizer.iterations.path}
        for path in self.slots.keys() & carried.keys():  # without the count: the moments of new variables begin at 0
            self.slots[path].assign(carried[path])
        progress = Progress(name, after, False, stopping, history, thawing=thawing, range_tests=tests)
        self._rate = self._highest(progress)
        now = values(self.task.variables)
        return Checkpoint(progress, now, now, head, values(self.slots), now if thawing else {})

    def resume(self, state: Checkpoint) -> Checkpoint:
        """Takes the variables and the optimizer to where they were."""

        restore(self.task.variables, state.weights, self.task.name, self._note)
        restore(self.slots, state.optimizer, f"{self.task.name} optimizer", self._note)
        self._rate = self._highest(state.progress)
        return state

    def run(self, state: Checkpoint) -> Checkpoint:
        """Runs the rest of the phase and returns its last checkpoint; the variables are left at their best.

        Raises TrainingError, and Interrupted where it was asked to stop, once a checkpoint is kept.
        """
        while not state.progress.finished:
            state = self._epoch(state)
            if state.progress.finished or self._due:
                self._save(state, wait=state.progress.finished)
        self.take(state.best)
        return state

    def take(self, weights: Tensors) -> None:
        """Assigns the variables."""
        restore(self.task.variables, weights, self.task.name, self._note)

    def predict(self, examples: np.ndarray, between: Callable[[], None] = lambda: None) -> np.ndarray:
        """Logits of these examples (int64 [n]) in their order, float32 [n, classes], the same on every worker.

        `between` is called every few steps, by all workers at the same time.
        """
        size, world_size = self.task.batch_size, self.team.world_size
        steps = order.steps_per_epoch(len(examples), size)
        shares = [order.WorkerShare(size, rank, world_size) for rank in range(world_size)]
        rows = np.stack([share.places(len(examples), 0, steps)[0] for share in shares])
        batches, answers = self.plain.read(examples), []
        for first in range(0, steps, CHUNK):
            count = tf.constant(min(CHUNK, steps - first))
            answers.append(self._guarded(self.plain, self.predict_steps, batches, count).numpy())
            self.team.control.beat()
            between()
        found = np.concatenate(answers, axis=1)
        logits = np.empty([len(examples), found.shape[-1]], np.float32)
        logits[rows[rows >= 0]] = found[rows >= 0]
        return logits

    def validate(self, between: Callable[[], None] = lambda: None) -> tuple[float, float]:
        """Weighted mean cross-entropy and accuracy on the validation split."""
        examples = self.data.splits["validation"]
        return loss_and_accuracy(
            self.predict(examples, between), self.data.labels[examples], self.data.weights[examples]
        )

    def _note(self, line: str) -> None:
        self.team.emit(Noted(line))

    def _heed(self, state: Checkpoint) -> None:
        """Raises Interrupted where somebody wants to stop, once what training has come to is kept."""
        if self.sum(self.team.control.wants_stop()).any():
            self._save(state, wait=True)
            progress = state.progress
            raise Interrupted(f"stopped at step {progress.step} of {progress.phase} epoch {progress.epoch + 1}")

    def _save(self, state: Checkpoint, wait: bool) -> None:
        self.team.save(state, wait)
        self.team.control.saved()
        self._due = False

    def _epoch(self, state: Checkpoint) -> Checkpoint:
        name, epoch = self.task.name, state.progress.epoch + 1
        started = time.monotonic() - state.progress.seconds
        examples = self.train[order.epoch_order(self.sizes, self.task.batch_size, self.task.seed, self._stream(epoch))]
        trained = self._train_epoch(epoch, examples, state)
        digest = proven(trained.progress.seen, self.data.ids[self.train], f"{name}: epoch {epoch}")
        loss = self._mean_loss(examples, trained.losses)
        validation_loss, validation_accuracy = self.validate(lambda: self._heed(trained))
        if not math.isfinite(validation_loss):
            raise NotFinite(f"{name}: the validation loss is not finite after epoch {epoch}. {self._advice()}")
        stopping = state.progress.stopping.after(epoch, validation_loss)
        record: dict[str, Any] = {
            "epoch": epoch,
            "loss": loss,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_accuracy,
            "learning_rate": self._learning_rate(epoch * self.steps - 1),
            "seconds": round(time.monotonic() - started, 3),
            "examples": len(self.train),
            "digest": digest,
        }
        if state.progress.thawing:
            record["blocks"] = state.progress.thawing.blocks
        made = (state.progress.earlier_epochs + epoch) * self.steps
        last = self.task.after + self.task.settings.epochs
        told: dict[str, Any] = {"epochs": last, "steps": made, "losses": trained.losses}
        self.team.emit(EpochEnded(phase=name, **told, **record))
        if self.team.rank == 0 and (thawed := self.task.thawed):
            self.team.emit(WeightsMeasured(steps=made, histograms={p: histogram(v.numpy()) for p, v in thawed.items()}))
        history = {**state.progress.history, name: [*state.progress.history[name], record]}
        finished = stopping.converged or epoch >= last
        before = replace(state.progress, step=0, seen=(0, 0), seconds=0.0)
        progress = replace(before, epoch=epoch, finished=finished, stopping=stopping, history=history)
        best = trained.weights if stopping.best_epoch == epoch else state.best
        return replace(trained, progress=progress, best=best, losses=np.empty(0, np.float32))

    def _stream(self, epoch: int) -> int:
        """The number that the epoch's random draws begin with."""
        return PHASE_STREAMS[self.task.name] + epoch

    def _train_epoch(self, epoch: int, examples: np.ndarray, state: Checkpoint) -> Checkpoint:
        """Makes the steps of the epoch over `examples` from that of `state` on; the state after the last one.

        Raises NotFinite naming the first step whose loss is not finite, and Interrupted.
        """
        before = (epoch - 1) * self.steps
        view = (epoch - 1) % self.task.views
        reader = self.views[view if len(self.views) > 1 else 0]
        if self.task.augment is not None and self.task.views == 1:
            view = fresh_view(self.task.seed, self._stream(epoch))
        elif view == 0:
            reader = self.unchanged
        step, control = state.progress.step, self.team.control
        losses, started = state.losses, time.monotonic() - state.progress.seconds
        seen = np.array(state.progress.seen if self.team.rank == 0 else (0, 0), np.int64)
        mixing = len(examples), self.task.settings.mixup, self.task.seed, self._stream(epoch)
        batches = reader.read(examples, view, step, order.mixing_shares(*mixing) if self.task.settings.mixup else None)
        while step < self.steps:
            begun = time.monotonic()
            done = before + np.arange(step, step + control.steps(before + step, self.steps - step))
            rates = tf.constant([self._learning_rate(int(made)) for made in done], tf.float32)
            draws = PHASE_STREAMS[self.task.name] * 2**10 % 2**31 + done
            seeds = tf.constant([[self.task.seed, draw] for draw in draws], tf.int32)
            votes = tf.constant(control.votes(before + step + len(done)))
            some, read, votes, waits = self._guarded(reader, self.train_steps, batches, rates, seeds, votes)
            losses, seen = np.concatenate([losses, some.numpy()]), seen + read.numpy()
            now = time.monotonic()
            self._measured(epoch, step + len(done), len(done), losses, now - started, now - begun, waits)
            self._check_finite(losses, step, epoch, examples)
            step += len(done)
            decision = control.decision(votes.numpy(), len(done), time.monotonic() - begun)
            self._due = decision.save and not decision.stop
            if step == self.steps or decision.save:
                self._check_weights(step, epoch, examples)
                total = self.sum(seen).tolist()
                seen = np.array(total if self.team.rank == 0 else (0, 0), np.int64)
                made = replace(state.progress, step=step, seen=tuple(total), seconds=time.monotonic() - started)
                weights, optimizer = values(self.task.variables), values(self.slots)
                state = replace(state, progress=made, weights=weights, optimizer=optimizer, losses=losses)
            if decision.stop or (decision.save and step < self.steps):
                self._save(state, wait=decision.stop)
            if decision.stop:
                raise Interrupted(f"stopped at step {step} of {self.task.name} epoch {epoch}")
        return state

    def _measured(
        self, epoch: int, step: int, made: int, losses: np.ndarray, seconds: float, latest: float, waits: tf.Tensor
    ) -> None:
        last, size = self.task.after + self.task.settings.epochs, self.task.batch_size
        told = StepsMade(self.task.name, epoch, last, step, self.steps, step * size, float(losses.mean()), seconds)
        self.team.measured(told, made, made * self.share.size, latest, waits.numpy(), float(losses[-1]))

    def _mean_loss(self, examples: np.ndarray, losses: np.ndarray) -> float:
        """Weighted, of all steps over `examples`."""
        sums = np.add.reduceat(self.data.weights[examples], np.arange(0, len(examples), self.task.batch_size))
        return float(np.average(losses.astype(np.float64), weights=sums))

    def _check_finite(self, losses: np.ndarray, first: int, epoch: int, examples: np.ndarray) -> None:
        """Looks at the losses from step `first` on. Raises NotFinite."""
        wrong = np.flatnonzero(~np.isfinite(losses[first:]))
        if not len(wrong):
            return
        raise self._not_finite("the loss is", first + int(wrong[0]), epoch, examples)

    def _check_weights(self, step: int, epoch: int, examples: np.ndarray) -> None:
        """After `step` steps. Raises NotFinite."""
        if not all(bool(tf.reduce_all(tf.math.is_finite(v.value))) for v in self.task.variables.values()):
            raise self._not_finite("its weights are", step - 1, epoch, examples)

    def _not_finite(self, what: str, step: int, epoch: int, examples: np.ndarray) -> NotFinite:
        batch = examples[step * self.task.batch_size : (step + 1) * self.task.batch_size]
        return NotFinite(
            f"{self.task.name}: {what} not finite at step {step + 1} of epoch {epoch}, on "
            f"{self.team.examples(batch)}. {self._advice()}"
        )

    def _guarded(self, reader: Batches, steps: Callable[..., Any], *arguments: Any) -> Any:
        """Raises what made the reader fail as it was."""
        try:
            return steps(*arguments)
        except tf.errors.OpError as error:
            raise reader.error(error) from None

    def _range_test(self) -> dict[str, Any]:
        """Leaves variables and optimizer as they were."""
        variables = {**self.task.variables, **self.slots}
        size, cycle, now, made = self.task.batch_size, min(CYCLE, self.steps), values(variables), 0
        examples = self.train[order.epoch_order(self.sizes, size, self.task.seed, self._stream(0))][: cycle * size]
        rounds = np.tile(examples, -(-(cycle + len(RATES)) // cycle))
        batches = self.unchanged.read(rounds, kept=np.ones(len(rounds), np.float32))  # nothing is mixed

        def make_steps(rates: np.ndarray) -> np.ndarray:
            nonlocal made
            seeds = tf.constant([[self.task.seed, -1 - made - place] for place in range(len(rates))], tf.int32)
            made += len(rates)
            steps = batches, tf.constant(rates, tf.float32), seeds, tf.zeros([VOTES])
            losses, *_ = self._guarded(self.unchanged, self.train_steps, *steps)
            self.team.control.beat()
            return losses.numpy()

        found = range_test(make_steps, cycle)
        for path, variable in variables.items():
            variable.assign(now[path])
        return found

    def _highest(self, progress: Progress) -> float:
        """The highest learning rate of the phase's schedule."""
        rate = self.task.settings.learning_rate
        return progress.range_tests[self.task.name]["learning_rate"] if rate == "auto" else rate

    def _learning_rate(self, step: int) -> float:
        settings, steps = self.task.settings, self.task.settings.epochs * self.steps
        return learning_rate(settings, self._rate, step - self.task.after * self.steps, steps, self.steps)

    def _advice(self) -> str:
        return f"Lower phases.{self.task.name}.learning_rate ({self._rate:g}) and run again."
