"""A few epochs of a run's phases, as its trainer makes them, to be timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from job.config import Job
from job.config.training import UnfreezeMatch
from job.features.cache import FeatureCache, NodeCache
from job.features.dataset import Dataset, FeatureSet
from job.features.extraction import NewPart
from job.features.store import ADDRESS, ids_of, write_file
from job.run.strategy import make_strategy
from job.storage import Store
from job.storage.filesystem import LocalStore
from job.storage.scratch import scratch

if TYPE_CHECKING:
    from job.model.network import Network

EPOCHS = 4
"""The epochs of each phase. The first two make what later ones find ready (steps, and how views are read); the last two
are timed.
"""
RATE = 1e-9
"""The learning rate, which has no part in the time: with this one nothing diverges."""


@dataclass(frozen=True)
class ShortRun:
    """What is trained, on features that are repeated until there is enough."""

    job: Job
    """With the phases and the batch that are to be timed."""
    pooled: NewPart
    inputs: NewPart | None
    """What fine-tuning trains on; None where the head alone is trained."""
    cut: str | None
    """The layer that `inputs` are the output of; None: they are decoded."""
    steps: int
    """The steps of an epoch, which ends with a validation on one batch."""


def shortened(job: Job, batch: int, thawed: Sequence[str]) -> Job:
    """The job with EPOCHS of each phase, whatever comes of them; `thawed` are the layers that fine-tuning trains."""
    phases, changed = job.phases, dict[str, Any](epochs=EPOCHS, patience=EPOCHS, learning_rate=RATE, warmup_epochs=0)
    changed_phases: dict[str, Any] = {"head": phases.head.model_copy(update=changed)}
    if phases.fine_tune:
        changed |= {"unfreeze": UnfreezeMatch(match=list(thawed)), "allow_unconverged_head": True}
        changed_phases["fine_tune"] = phases.fine_tune.model_copy(update=changed)
    train = job.train.model_copy(update={"batch_size": batch})
    return job.model_copy(update={"phases": phases.model_copy(update=changed_phases), "train": train})


class Epochs(NamedTuple):
    """Seconds of the last phase of a short run."""

    each: float
    """An epoch that finds everything ready."""
    once: float
    """All else that the phase takes."""


def time_epochs(run: ShortRun, network: Network) -> Epochs:
    """Trains the network. All that is asked of the trainer is in this function."""
    from job.training.control import Control
    from job.training.factory import Inputs, PhaseFactory
    from job.training.phase_task import WorkerContext
    from job.training.phases import train_phases

    job, until = run.job, "fine_tune" if run.inputs else "head"
    context = WorkerContext(
        rank=0,
        world_size=1,
        strategy=make_strategy(job, 1),
        control=Control(job.checkpoint),
        save=lambda checkpoint, wait: None,
        emit=lambda event: None,
        examples=str,
    )
    with scratch() as folder:
        store, node = LocalStore(folder), NodeCache(f"{folder}/node", None, 1)
        data = _dataset(run, network.head.output_shape[-1], store)
        pooled, inputs = (
            [FeatureCache(store, data, featurizer, cache=node) for featurizer in sets]
            for sets in (data.pooled, data.inputs)
        )
        factory = PhaseFactory(job, network, data, Inputs(pooled, inputs, run.cut), context)
        began = time.perf_counter()
        trained = train_phases(factory, until=until)
        taken = time.perf_counter() - began
    seconds = {
        name: [record.seconds for record in records if record.seconds is not None]
        for name, records in trained.history.items()
    }
    each = mean(seconds[until][-2:])
    before = sum(seconds["head"]) if run.inputs else 0.0
    return Epochs(each, max(0.0, taken - before - EPOCHS * each))


def _dataset(run: ShortRun, classes: int, store: Store) -> Dataset:
    """The batches of an epoch, of which the last one is the validation split, and their features in a store."""
    batch = run.job.train.batch_size
    examples = np.arange(batch * (run.steps + 1))
    addresses = np.frombuffer(np.random.default_rng(0).bytes(ADDRESS.itemsize * len(examples)), ADDRESS)

    def stored(features: NewPart) -> FeatureSet:
        values = np.resize(features.values, (len(examples), *features.values.shape[1:]))
        parts = write_file(store, features.featurizer, [(addresses, values)])
        return FeatureSet(features.featurizer, parts, np.zeros(len(examples), np.int32), examples.astype(np.int32))

    return Dataset(
        id="",
        rows=examples,
        ids=ids_of(addresses),
        hashes=examples.astype(np.uint64),
        labels=(examples % classes).astype(np.int32),
        weights=np.ones(len(examples), np.float32),
        shards=np.zeros(len(examples), np.int64),
        splits={"train": examples[:-batch], "validation": examples[-batch:], "test": examples[:0]},
        pooled=[stored(run.pooled)],
        inputs=[stored(run.inputs)] if run.inputs else [],
    )
