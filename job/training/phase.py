"""One phase made ready to train: its first checkpoint, its batches, its compiled steps, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from job.data import order
from job.features.dataset import Dataset
from job.run.events import EpochEnded, Noted
from job.run.outcome import EpochRecord, RangeTest
from job.training.batches import CHUNK, Batches, fresh_view
from job.training.checkpoint import CallerState, Checkpoint, Progress, Tensors, restore, values
from job.training.control import VOTES
from job.training.convergence import EarlyStopping
from job.training.measure import Score, score
from job.training.optimization import Schedule
from job.training.phase_task import PhaseTask, WorkerContext
from job.training.range_test import CYCLE, RATES, range_test
from job.training.step import BatchIterator, StepInputs, StepResults, make_predict_steps, make_sum, make_train_steps

STREAMS = {"head": 0, "fine_tune": 2**20}
"""Added to the epoch, so that phases of different names draw different orders."""


class EpochBatches(NamedTuple):
    examples: np.ndarray
    """Positions in the data set, int64 [n], in the epoch's order."""
    reader: Batches
    iterator: BatchIterator


class Phase:
    """Trains `task.variables` on the data set's train split; `job.training.loop` runs it."""

    def __init__(self, task: PhaseTask, data: Dataset, team: WorkerContext) -> None:
        self.task, self.data, self.team = task, data, team
        self.train, self._sizes = data.splits["train"], data.sizes("train")
        self.steps_per_epoch = order.steps_per_epoch(len(self.train), task.batch_size)
        self.share = order.WorkerShare(task.batch_size, team.rank, team.world_size)
        self.slots = task.optimizer.slots
        self._mixes = task.settings.mixup > 0
        self._plain = Batches(task.inputs[0], data, self.share)
        self._views = [
            Batches(cache, data, self.share, augment=task.augment, mixes=self._mixes) for cache in task.inputs
        ]
        self._unchanged = Batches(task.inputs[0], data, self.share, mixes=True) if self._mixes else self._plain
        self._train_steps = make_train_steps(
            team.strategy,
            self._unchanged.spec,
            forward=task.forward,
            optimizer=task.optimizer,
            jit_compile=task.jit_compile,
            smoothing=task.settings.label_smoothing,
        )
        self._predict_steps = make_predict_steps(team.strategy, self._plain.spec, forward=task.forward, rank=team.rank)
        self.sum_over_workers = make_sum(team.strategy)

    def begin(self, previous: Checkpoint | None = None) -> Checkpoint:
        """The checkpoint before the first step, with the variables as they are.

        The phase goes on from `previous`, the last checkpoint of the phase before it: with its history and the state of
        its caller; and where both have one name, with the numbers of its epochs, and with what the optimizer has
        learned of variables that both train. The optimizer's count of steps begins anew.
        """
        task = self.task
        history = previous.progress.history if previous else {"head": [], "fine_tune": []}
        before = history[task.name][-1].epoch if history[task.name] else 0
        tests = previous.progress.range_tests if previous else {}
        stopping = EarlyStopping(task.settings.patience)
        if task.trained:
            loss, accuracy = self.validate()
            stopping = stopping.after(before, loss)
            if not history[task.name]:
                record = EpochRecord(0, loss, accuracy)
                history = {**history, task.name: [record]}
                self.team.emit(EpochEnded(task.name, record))
        if task.settings.learning_rate == "auto" and task.name not in tests:
            tests = {**tests, task.name: self._range_test()}
            rate = tests[task.name].learning_rate
            self.team.emit(Noted(f"{task.name}: the learning rate is {rate:.2g} (range test)"))
        learned = previous.optimizer if previous else {}
        for path in task.optimizer.moments.keys() & learned.keys():  # those of new variables begin at 0
            self.slots[path].assign(learned[path])
        weights = values(task.variables)
        progress = Progress(
            phase=task.name,
            epoch=before,
            epochs_before=before,
            finished=False,
            stopping=stopping,
            history=history,
            range_tests=tests,
        )
        return Checkpoint(
            progress=progress,
            weights=weights,
            best=weights,
            optimizer=values(self.slots),
            caller=previous.caller if previous else CallerState(),
        )

    def resume(self, state: Checkpoint) -> Checkpoint:
        """Takes the variables and the optimizer to where they were."""
        self.assign(state.weights)
        restore(self.slots, state.optimizer, what=f"{self.task.name} optimizer", log=self.team.note)
        return state

    def assign(self, weights: Tensors) -> None:
        """Gives the variables these values."""
        restore(self.task.variables, weights, what=self.task.name, log=self.team.note)

    def schedule(self, progress: Progress) -> Schedule:
        """The learning rates of the phase."""
        rate = self.task.settings.learning_rate
        highest = progress.range_tests[self.task.name].learning_rate if rate == "auto" else rate
        first_step = progress.epochs_before * self.steps_per_epoch
        return Schedule(self.task.settings, highest, self.steps_per_epoch, first_step=first_step)

    def batches(self, epoch: int, first: int) -> EpochBatches:
        """This worker's batches of an epoch, from its step `first` on."""
        task, stream = self.task, self._stream(epoch)
        examples = self._ordered(epoch)
        view = (epoch - 1) % task.views
        reader = self._views[view if len(self._views) > 1 else 0]
        if task.augment is not None and task.views == 1:
            view = fresh_view(task.seed, stream)
        elif view == 0:
            reader = self._unchanged
        kept = order.mixing_shares(len(examples), task.settings.mixup, task.seed, epoch=stream) if self._mixes else None
        return EpochBatches(examples, reader, reader.read(examples, view=view, first=first, kept=kept))

    def step_seeds(self, steps: np.ndarray) -> tf.Tensor:
        """The seeds of the random draws of the steps with these numbers, int32 [k, 2]."""
        draws = STREAMS[self.task.name] * 2**10 % 2**31 + steps
        return tf.constant([[self.task.seed, draw] for draw in draws], tf.int32)

    def make_steps(self, batches: EpochBatches, inputs: StepInputs) -> StepResults:
        with batches.reader.own_errors():
            return self._train_steps(batches.iterator, inputs)

    def predict(self, examples: np.ndarray, between: Callable[[], None] = lambda: None) -> np.ndarray:
        """Logits of these examples (int64 [n]) in their order, float32 [n, classes], the same on every worker.

        `between` is called every few steps, by all workers at the same time.
        """
        size, world_size = self.task.batch_size, self.team.world_size
        steps = order.steps_per_epoch(len(examples), size)
        shares = [order.WorkerShare(size, rank, world_size) for rank in range(world_size)]
        rows = np.stack([share.places(len(examples), 0, steps)[0] for share in shares])
        batches, answers = self._plain.read(examples), []
        for first in range(0, steps, CHUNK):
            with self._plain.own_errors():
                answers.append(self._predict_steps(batches, tf.constant(min(CHUNK, steps - first))).numpy())
            self.team.control.beat()
            between()
        by_rank = np.concatenate(answers, axis=1)
        logits = np.empty([len(examples), by_rank.shape[-1]], np.float32)
        logits[rows[rows >= 0]] = by_rank[rows >= 0]
        return logits

    def validate(self, between: Callable[[], None] = lambda: None) -> Score:
        """Loss and accuracy on the validation split."""
        examples = self.data.splits["validation"]
        return score(self.predict(examples, between), self.data.labels[examples], self.data.weights[examples])

    def _stream(self, epoch: int) -> int:
        """The number that the epoch's random draws begin with."""
        return STREAMS[self.task.name] + epoch

    def _ordered(self, epoch: int) -> np.ndarray:
        """The train split in the order of an epoch."""
        task = self.task
        return self.train[order.epoch_order(self._sizes, task.batch_size, task.seed, epoch=self._stream(epoch))]

    def _range_test(self) -> RangeTest:
        """Leaves variables and optimizer as they were."""
        variables = {**self.task.variables, **self.slots}
        before, count, cycle = values(variables), 0, min(CYCLE, self.steps_per_epoch)
        whole = np.resize(self._ordered(0), cycle * self.task.batch_size)  # whole batches, where examples are few
        examples = np.tile(whole, -(-(cycle + len(RATES)) // cycle))
        kept = np.ones(len(examples), np.float32)  # nothing is mixed
        batches = EpochBatches(examples, self._unchanged, self._unchanged.read(examples, kept=kept))

        def make_steps(rates: np.ndarray) -> np.ndarray:
            nonlocal count
            seeds = tf.constant([[self.task.seed, -1 - count - place] for place in range(len(rates))], tf.int32)
            count += len(rates)
            results = self.make_steps(batches, StepInputs(tf.constant(rates, tf.float32), seeds, tf.zeros([VOTES])))
            self.team.control.beat()
            return results.losses.numpy()

        test = range_test(make_steps, cycle)
        for path, variable in variables.items():
            variable.assign(before[path])
        return test
