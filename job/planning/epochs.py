"""A few epochs of a phase, as the run's trainer makes them, to be timed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from job.config import Job
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, FeatureSet
from job.features.extraction import NewPart
from job.features.store import ADDRESS, ids_of, write_part
from job.run.strategy import make_strategy, use_jit
from job.storage.filesystem import LocalStore

if TYPE_CHECKING:
    from job.model.network import Network

EPOCHS = 3
"""Epochs that are made: the first one compiles the steps, and the others are timed."""
RATE = 1e-9
"""The learning rate, which has no part in the time: with this one nothing diverges."""
EPOCH = 0.05
"""Seconds of each epoch beside its steps: the proof of its order, its history, what is told of it."""


@dataclass(frozen=True)
class PhaseSpeeds:
    """Seconds."""

    step: float
    predict: float
    """Of a batch of one worker."""
    compile: float
    """Of the first epoch, beyond what others take."""

    def scaled(self, examples: float) -> PhaseSpeeds:
        """With so many times the examples in a batch."""
        return PhaseSpeeds(self.step * examples, self.predict * examples, self.compile)


@dataclass(frozen=True)
class ShortPhase:
    """A phase to be timed."""

    name: str
    features: NewPart
    """What it trains on, repeated until there is enough."""
    batch: int
    steps: int
    """Of an epoch."""
    cut: str | None = None
    """The layer that `features` are the output of; None: what is decoded, or pooled."""


def time_phase(job: Job, network: Network, phase: ShortPhase, folder: str) -> PhaseSpeeds:
    """Trains for EPOCHS, and predicts one batch more; the layers that train are thawed. `folder` takes what would be in
    the store and on a node's disk.

    Everything that this asks of the trainer is in this function.
    """
    from job.training.control import Control
    from job.training.loop import Phase
    from job.training.phase_task import PhaseTask, WorkerContext
    from job.training.phases import fine_tune_forward, head_forward, trainable

    changed = {"epochs": EPOCHS, "patience": EPOCHS, "learning_rate": RATE, "warmup_epochs": 0}
    if phase.name == "head":
        forward, jit_compile = head_forward(job, network.head), use_jit(job, depthwise=False)
    else:
        forward, jit_compile = fine_tune_forward(job, network, phase.cut)
    data, cache = _dataset(phase, network.head.output_shape[-1], folder)
    task = PhaseTask(
        name=phase.name,
        settings=getattr(job.phases, phase.name).model_copy(update=changed),
        batch_size=phase.batch,
        seed=job.train.seed,
        inputs=[cache],
        views=job.train.views,
        forward=forward,
        variables=trainable(network.head if phase.name == "head" else network.model),
        augment=job.augment if phase.features.featurizer.tap == "image" and job.augment.active else None,
        jit_compile=jit_compile,
    )
    context = WorkerContext(
        rank=0,
        world_size=1,
        strategy=make_strategy(job, 1),
        control=Control(job.checkpoint),
        save=lambda checkpoint, wait: None,
        say=lambda kind, **fields: None,
        examples=str,
    )
    trained = Phase(task, data, context)
    last = trained.run(trained.begin(None, head={}))
    began = time.perf_counter()
    trained.validate()
    predict = time.perf_counter() - began
    first, *others = (record["seconds"] for record in last.progress.history[phase.name])
    step = max(0.0, mean(others) - predict - EPOCH) / phase.steps
    return PhaseSpeeds(step, predict, max(0.0, first - mean(others)))


def _dataset(phase: ShortPhase, classes: int, folder: str) -> tuple[Dataset, FeatureCache]:
    """Its batches to train on and one to validate on, whose features are stored and read as those of a run."""
    features, batch = phase.features, phase.batch
    examples = np.arange(batch * (phase.steps + 1))
    addresses = np.frombuffer(np.random.default_rng(0).bytes(ADDRESS.itemsize * len(examples)), ADDRESS)
    values = np.resize(features.values, (len(examples), *features.values.shape[1:]))
    store = LocalStore(folder)
    part = write_part(store, features.featurizer, addresses, values)
    stored = FeatureSet(
        features.featurizer, [part], part=np.zeros(len(examples), np.int32), offset=examples.astype(np.int32)
    )
    data = Dataset(
        id="",
        rows=examples,
        ids=ids_of(addresses),
        hashes=examples.astype(np.uint64),
        labels=(examples % classes).astype(np.int32),
        weights=np.ones(len(examples), np.float32),
        shards=np.zeros(len(examples), np.int64),
        splits={"train": examples[:-batch], "validation": examples[-batch:], "test": examples[:0]},
        pooled=[],
        inputs=[],
    )
    return data, FeatureCache(store, data, stored, NodeCache(f"{folder}/node", None, 1))
