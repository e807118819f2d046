"""What one training worker does, wherever it runs."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.data.snapshot import Snapshot, read_snapshot
from job.errors import ClusterError
from job.run.events import (
    Emit,
    Event,
    FirstStepMade,
    TrainingEnded,
    TrainingStarted,
    Warned,
    WorkersFormed,
    WorkersForming,
)
from job.run.proxies import proxies_in_words
from job.run.state import FencingToken, GuardedStore, RunState
from job.run.strategy import group_addresses, make_strategy, precision, prepare_process
from job.storage import Store, open_store
from job.storage.runs import RunKeys
from job.storage.scratch import forget_scratch
from job.training.checkpoint import Checkpoint
from job.training.context import Recipe, WorkerProcess
from job.training.watchdog import Laps, Watchdog

NAMED = 4
"""Examples of a batch that an error names itself."""


def train(recipe: Recipe, context: WorkerProcess) -> None:
    """Goes on with the run from its latest checkpoint; what it comes to is in the store.

    Raises Interrupted once a checkpoint is kept, and what else the phases raise.
    """
    watchdog, laps = _watchdog(recipe, context), Laps()
    try:
        with precision(recipe.job):
            _train(recipe, context, watchdog, laps)
    finally:
        watchdog.end()


def _train(recipe: Recipe, context: WorkerProcess, watchdog: Watchdog, laps: Laps) -> None:
    prepare_process(recipe.job, context.cpus)
    from safetensors.numpy import load

    from job.features.cache import FeatureCache, NodeCache
    from job.features.dataset import load_dataset
    from job.model.freezing import described_blocks
    from job.model.networks import network_of_run
    from job.training.checkpointer import Checkpointer, load_checkpoint
    from job.training.control import Control
    from job.training.phase_task import WorkerContext
    from job.training.phases import Inputs, WarmWeights, train_phases
    from job.training.throughput import Meter

    job, run, rank = recipe.job, recipe.run, context.rank
    store = open_store(job.store, job.storage)

    def done(part: str) -> None:
        watchdog.beat()
        laps.lap(part)

    def emit(event: Event) -> None:
        if rank == 0:
            context.emit(event)

    done("imports")
    if context.local_rank == 0:
        forget_scratch()
    begun, resumed = _begin(recipe, context, store, emit) if rank == 0 else (None, None)
    begun = context.from_first(begun)
    done("group")
    if begun is None:
        return
    if context.world_size > 1:  # where they do not find each other, the driver alone can say so: Python stands still
        emit(WorkersForming(addresses=group_addresses(), proxies=proxies_in_words()))
    strategy = make_strategy(job, context.world_size)  # before TensorFlow computes anything
    if context.world_size > 1:
        emit(WorkersFormed())
    snapshot = recipe.snapshot
    data = load_dataset(store, run, snapshot.classes, job.train.class_weights)
    cache = NodeCache(None, job.train.cache_limit, context.local_world_size)
    pooled, fine_tune = (
        [FeatureCache(store, data, found, cache) for found in sets] for sets in (data.pooled, data.inputs)
    )
    network = network_of_run(job, store, run, recipe.base, len(snapshot.classes))
    warm = None
    if source := recipe.warm_start:
        trained_before = [RunKeys(source["run"]).weights(name) for name in ("head", "fine_tuned")]
        tensors = [load(store.read(key)) for key in trained_before[: 1 + source["fine_tuned"]]]
        warm = WarmWeights(source["classes"], snapshot.classes, *tensors)
    if begun["entry"] and resumed is None:
        resumed = load_checkpoint(store, run, begun["entry"])
    done("restore")
    group = RunState(store, run, FencingToken(recipe.attempt, begun["group"]))
    meter = Meter(run, rank, emit, context.metrics)
    checkpointer = Checkpointer(store, group, job.checkpoint.keep, emit, meter.checkpoint) if rank == 0 else None
    stop = context.listen()
    busy = checkpointer.is_busy if checkpointer else lambda: False

    def ready() -> None:
        laps.lap("first step")
        restart = {"restart": round(laps.began - begun["noticed"], 2)} if begun["noticed"] else {}
        emit(FirstStepMade(at=time.time(), seconds={**restart, **laps.seconds}))

    control = Control(job.checkpoint, rank, stop, busy, watchdog.beat, ready)
    save = checkpointer.save if checkpointer else lambda checkpoint, wait: None
    names = _names(store, run, snapshot, data)
    team = WorkerContext(rank, context.world_size, strategy, control, save, emit, names, meter.steps)
    progress = resumed.progress if resumed else None
    emit(
        TrainingStarted(
            workers=team.world_size, resumed=(progress.phase, progress.epoch, progress.step) if progress else None
        )
    )
    inputs = Inputs(pooled, fine_tune, recipe.cut)
    trained = train_phases(job, recipe.until, network, data, inputs, team, resumed, warm)
    watchdog.end()
    if rank == 0:
        keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows[trained.examples])
        blocks = described_blocks(network.base, network.head, recipe.cut)
        _write_result(GuardedStore(store, group), run, trained, data, keys, blocks)
        emit(TrainingEnded(kept=trained.kept, fine_tuned=trained.fine_tuned is not None))
        context.end()


def _begin(
    recipe: Recipe, context: WorkerProcess, store: Store, emit: Emit
) -> tuple[dict[str, Any] | None, Checkpoint | None]:
    """What rank 0 tells all: the number of this group, the entry of the checkpoint that it goes on from (or None), and
    when the end of the group before it was noticed; and that checkpoint, which it has read to choose it.

    Nothing is told where there is nothing to do. Raises ClusterError where the same failure has come too often.
    """
    from job.training.checkpointer import forget_unlisted, latest_checkpoint

    if context.is_over():
        return None, None
    group = RunState(store, recipe.run, FencingToken(recipe.attempt)).begin_group()
    latest = latest_checkpoint(store, group, emit)
    entry, checkpoint = latest or (None, None)
    start = context.start(entry.name if entry else "")
    if start.refused:
        raise ClusterError(f"{start.refused} (--debug shows the workers' logs).")
    time.sleep(start.pause)
    forget_unlisted(store, group)
    return {"group": group.token.group, "entry": entry, "noticed": start.noticed}, checkpoint


def _watchdog(recipe: Recipe, context: WorkerProcess) -> Watchdog:
    """Writes `runs/<run>/stacks/<attempt>-<rank>-<time>.txt` before it ends a worker that does not get on."""
    job, where = recipe.job, f"{recipe.attempt}-{context.rank}"
    store = open_store(job.store, job.storage)
    guarded = GuardedStore(store, RunState(store, recipe.run, FencingToken(recipe.attempt)))
    still = f"worker {context.rank} made no step for {job.recovery.stall_timeout:g} s and is ended"

    def report(stacks: str) -> None:
        key = RunKeys(recipe.run).stacks(f"{where}-{int(time.time())}")
        guarded.write(key, stacks.encode())
        context.emit(Warned(f"{still}; its stacks: {store.uri}{key}"))

    return Watchdog(job.recovery.stall_timeout, report, lambda _: context.leave(still))


def _names(store: Store, run: str, snapshot: Snapshot, data: Any) -> Callable[[np.ndarray], str]:
    def names(examples: np.ndarray) -> str:
        keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows[examples]).to_pylist()
        named = ", ".join(keys[:NAMED])
        if len(keys) <= NAMED:
            return named
        key = RunKeys(run).batch
        store.write(key, ("\n".join(keys) + "\n").encode())
        return f"{named} and {len(keys) - NAMED} more (all of them: {store.uri}{key})"

    return names


def _write_result(
    store: Store, run: str, trained: Any, data: Any, keys: pa.ChunkedArray, blocks: list[dict[str, Any]]
) -> None:
    """The trained variables and the logits on validation and test, and last what was decided (training.json)."""
    import json

    from safetensors.numpy import save

    store.write(RunKeys(run).weights("head"), save(trained.head))
    if trained.fine_tuned is not None:
        store.write(RunKeys(run).weights("fine_tuned"), save(trained.fine_tuned))
    sides = np.full(len(data.labels), "", object)
    for split, members in data.splits.items():
        sides[members] = split
    columns = {
        "key": keys,
        "split": pa.array(sides[trained.examples]),
        "label": pa.array(data.labels[trained.examples]),
        **{f"logits_{name}": pa.array(list(logits)) for name, logits in trained.logits.items()},
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    store.write(RunKeys(run).predictions, buffer.getvalue())
    decided = {name: getattr(trained, name) for name in ("kept", "converged", "thawed", "history")}
    decided |= {"range_tests": trained.progress.range_tests, "blocks": blocks}
    sets = {"head": trained.head, "fine_tune": trained.fine_tuned or {}}
    decided["parameters"] = {phase: sum(value.size for value in tensors.values()) for phase, tensors in sets.items()}
    store.write(RunKeys(run).training, json.dumps(decided).encode())
