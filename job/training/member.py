"""One worker of a group, in a process that is prepared."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import tensorflow as tf
from safetensors.numpy import load

from job.data.snapshot import read_snapshot
from job.errors import ClusterError
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, load_dataset
from job.model.freezing import block_of_cut, block_sizes
from job.model.networks import network_of_run
from job.run.events import (
    Event,
    FirstStepMade,
    HandedOver,
    TrainingEnded,
    TrainingStarted,
    WorkersFormed,
    WorkersForming,
)
from job.run.fake_gpu import check_fake
from job.run.outcome import DescribedBlock
from job.run.proxies import proxies_in_words
from job.run.state import CheckpointEntry, FencingToken, GuardedStore, RunState
from job.run.strategy import group_addresses, make_strategy
from job.storage import open_store
from job.storage.run_keys import RunKeys
from job.storage.scratch import forget_scratch
from job.training.checkpoint import Checkpoint
from job.training.checkpointer import Checkpointer, forget_unlisted, latest_checkpoint, load_checkpoint
from job.training.context import Recipe, WorkerProcess
from job.training.control import Control
from job.training.factory import Inputs, PhaseFactory
from job.training.outputs import write_outputs
from job.training.phase_task import WorkerContext
from job.training.phases import Trained, WarmWeights, hand_over_head, train_phases
from job.training.throughput import Meter
from job.training.watchdog import Laps, Watchdog

NAMED = 4
"""Examples of a batch that an error names itself."""


class Group(NamedTuple):
    """What the first worker tells all."""

    number: int
    entry: CheckpointEntry | None
    """The entry of the checkpoint that the group goes on from."""
    noticed: float | None
    """When the end of the group before it was noticed (UNIX time, seconds)."""


class Beginning(NamedTuple):
    group: Group | None
    """None where there is nothing to do."""
    checkpoint: Checkpoint | None
    """The checkpoint that the group goes on from; None for a start."""


class Member:
    """Does a worker's part of the training."""

    def __init__(self, recipe: Recipe, context: WorkerProcess, *, watchdog: Watchdog, laps: Laps) -> None:
        self.recipe, self.context, self.watchdog, self.laps = recipe, context, watchdog, laps
        self.job, self.run, self.keys = recipe.job, recipe.run, RunKeys(recipe.run)
        self.store = open_store(self.job.store, self.job.storage)
        self.is_first = context.rank == 0

    def train(self) -> None:
        """Joins the other workers, trains what is left of the run with them, and writes what it comes to."""
        self._lap("imports")
        if self.context.local_rank == 0:
            forget_scratch()
        group, checkpoint = self._begin_group() if self.is_first else Beginning(None, None)
        group = self.context.from_first(group)
        self._lap("group")
        if group is None:
            return
        strategy = self._join_group()  # before TensorFlow computes anything
        classes = self.recipe.snapshot.classes
        data = load_dataset(self.store, self.run, classes, class_weights=self.job.train.class_weights)
        check_fake(self.job, data.pooled[0].featurizer.meaning)
        inputs = self._inputs(data)
        network = network_of_run(self.job, self.store, self.run, resolved=self.recipe.base, classes=len(classes))
        warm = self._warm_weights()
        if group.entry and checkpoint is None:
            checkpoint = load_checkpoint(self.store, self.run, group.entry)
        self._lap("restore")
        state = RunState(self.store, self.run, FencingToken(self.recipe.attempt, group.number))
        team = self._team(state, data, strategy=strategy, noticed=group.noticed)
        progress = checkpoint.progress if checkpoint else None
        place = (progress.phase, progress.epoch, progress.step) if progress else None
        self.emit(TrainingStarted(team.world_size, place))
        factory = PhaseFactory(self.job, network, data, inputs=inputs, team=team)
        if self.recipe.last:
            trained = train_phases(factory, until=self.recipe.until, resumed=checkpoint, warm=warm)
            self.watchdog.end()
            self._leave(trained, factory, state)
        else:
            hand_over_head(factory, resumed=checkpoint, warm=warm)
            self.emit(HandedOver())
        if self.is_first:
            self.context.end()

    def _leave(self, trained: Trained, factory: PhaseFactory, state: RunState) -> None:
        """Writes what training comes to, on the first worker."""
        if not self.is_first:
            return
        network, data = factory.network, factory.data
        at_cut = block_of_cut(network.base, self.recipe.cut)
        sizes = block_sizes(network.base, network.head)
        blocks = [DescribedBlock(*size, cut=place == at_cut) for place, size in enumerate(sizes)]
        keys = self._keys_of(data, trained.examples)
        write_outputs(GuardedStore(self.store, state), self.keys, trained, data=data, keys=keys, blocks=blocks)
        self.emit(TrainingEnded(kept=trained.kept, fine_tuned=trained.fine_tuned is not None))

    def emit(self, event: Event) -> None:
        if self.is_first:
            self.context.emit(event)

    def _lap(self, part: str) -> None:
        self.watchdog.beat()
        self.laps.lap(part)

    def _begin_group(self) -> Beginning:
        """Chooses, on the first worker, the checkpoint that the group goes on from, by reading it.

        Raises ClusterError where the same failure has come too often.
        """
        if self.context.is_over():
            return Beginning(None, None)
        state = RunState(self.store, self.run, FencingToken(self.recipe.attempt)).begin_group()
        assert state.token.group is not None
        entry, checkpoint = latest_checkpoint(self.store, state, self.emit) or (None, None)
        start = self.context.start(entry.name if entry else "")
        if start.refused:
            raise ClusterError(f"{start.refused} (--debug shows the workers' logs).")
        time.sleep(start.pause)
        forget_unlisted(self.store, state)
        return Beginning(Group(state.token.group, entry, start.noticed), checkpoint)

    def _join_group(self) -> tf.distribute.Strategy:
        """Where the workers do not find each other, the driver alone can say so: Python stands still here."""
        if self.context.world_size == 1:
            return make_strategy(self.job, 1)
        self.emit(WorkersForming(addresses=group_addresses(), proxies=proxies_in_words()))
        strategy = make_strategy(self.job, self.context.world_size)
        self.emit(WorkersFormed())
        return strategy

    def _inputs(self, data: Dataset) -> Inputs:
        cache = NodeCache(None, self.job.train.cache_limit, self.context.local_world_size)
        pooled, fine_tune = (
            [FeatureCache(self.store, data, features, cache=cache) for features in views]
            for views in (data.pooled, data.inputs)
        )
        return Inputs(pooled, fine_tune, self.recipe.cut)

    def _warm_weights(self) -> WarmWeights | None:
        if not (source := self.recipe.warm_start):
            return None
        keys = RunKeys(source.run)
        return WarmWeights(
            before=source.classes,
            classes=self.recipe.snapshot.classes,
            head=load(self.store.read(keys.weights("head"))),
            fine_tuned=load(self.store.read(keys.weights("fine_tuned"))) if source.fine_tuned else None,
        )

    def _team(
        self, state: RunState, data: Dataset, *, strategy: tf.distribute.Strategy, noticed: float | None
    ) -> WorkerContext:
        rank = self.context.rank
        meter = Meter(self.run, rank, emit=self.emit, metrics=self.context.metrics)
        keep = self.job.checkpoint.keep
        checkpointer = Checkpointer(self.store, state, keep=keep, emit=self.emit, measured=meter.checkpoint)

        def ready() -> None:
            self.laps.lap("first step")
            restart = {"restart": round(self.laps.began - noticed, 2)} if noticed else {}
            self.emit(FirstStepMade(at=time.time(), seconds={**restart, **self.laps.seconds}))

        control = Control(
            self.job.checkpoint,
            rank,
            self.context.listen(),
            is_busy=checkpointer.is_busy,
            beat=self.watchdog.beat,
            ready=ready,
        )
        return WorkerContext(
            rank=rank,
            world_size=self.context.world_size,
            strategy=strategy,
            control=control,
            save=checkpointer.save if self.is_first else lambda checkpoint, wait: None,
            emit=self.emit,
            examples=lambda examples: self._named(data, examples),
            measured=meter.steps,
        )

    def _keys_of(self, data: Dataset, examples: np.ndarray) -> pa.ChunkedArray:
        return read_snapshot(self.store, self.recipe.snapshot, ["key"])["key"].take(data.rows[examples])

    def _named(self, data: Dataset, examples: np.ndarray) -> str:
        """The keys of some examples; a file in the run's folder has them where they are many."""
        keys = self._keys_of(data, examples).to_pylist()
        named = ", ".join(keys[:NAMED])
        if len(keys) <= NAMED:
            return named
        self.store.write(self.keys.batch, ("\n".join(keys) + "\n").encode())
        return f"{named} and {len(keys) - NAMED} more (all of them: {self.store.uri}{self.keys.batch})"
