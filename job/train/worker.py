"""What one Ray Train worker does."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Job
from job.data.snapshot import Snapshot, read_snapshot
from job.errors import CorruptFeatures, ThawError
from job.storage import Store, open_store

RESULT = ("head.safetensors", "fine_tuned.safetensors", "predictions.parquet", "training.json")


def train_worker(config: dict[str, Any]) -> None:
    """`config`: job, run (id), until, snapshot, base, cut, cpus, events and ended (Ray queues).

    An error that the user can mend goes to the driver as an event. The worker then fails, so that Ray ends those that
    wait for it, and leaves a word in `ended`, so that a group started anew does nothing.
    """
    import ray.train

    rank = ray.train.get_context().get_world_rank()

    def say(kind: str, **fields: Any) -> None:
        if rank == 0:
            config["events"].put({"kind": kind, **fields})

    if not config["ended"].empty():
        return
    try:
        _train(config, say)
    except ThawError as error:
        part = (error.featurizer, error.part) if isinstance(error, CorruptFeatures) else ()
        config["events"].put({"kind": "error", "type": type(error).__name__, "arguments": (str(error), *part)})
        config["ended"].put(rank)
        raise


def _train(config: dict[str, Any], say: Callable[..., None]) -> None:
    job = Job.model_validate(config["job"])
    from job.train.strategy import make_strategy, prepare_process

    prepare_process(job, config["cpus"])
    import ray.train

    from job.data.arena import Arena, NodeCache
    from job.data.dataset import load_dataset
    from job.model.heads import build_head
    from job.model.network import build_network
    from job.model.weights import ResolvedBase, load_base
    from job.train.loop import Team
    from job.train.phases import Inputs, train_phases

    store, snapshot = open_store(job.store), Snapshot(**config["snapshot"])
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    strategy = make_strategy(job)
    data = load_dataset(store, config["run"], snapshot.classes, job.train.class_weights)
    cache = NodeCache(None, job.train.cache_limit, context.get_local_world_size())
    pooled, fine_tune = ([Arena(store, data, found, cache) for found in sets] for sets in (data.pooled, data.inputs))
    base = load_base(job.model, store, ResolvedBase(**config["base"]))
    head = build_head(base.output_shape[-1], job.model.head, len(snapshot.classes), job.train.seed)
    network = build_network(base, head)
    team = Team(rank, world_size, strategy, _saver(store, config["run"], rank), say)
    resumed = _latest(say)
    say("start", workers=world_size, resumed=resumed and [resumed.progress.phase, resumed.progress.epoch])
    inputs = Inputs(pooled, fine_tune, config["cut"])
    trained = train_phases(job, config["until"], network, data, inputs, team, resumed)
    if rank == 0:
        keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows[trained.examples])
        _write_result(store, config["run"], trained, data, keys)
        say("trained", kept=trained.kept, fine_tuned=trained.fine_tuned is not None)


def _latest(say: Callable[..., None]) -> Any:
    import ray.train

    from job.train.checkpoint import read_checkpoint

    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    with latest.as_directory() as folder:
        return read_checkpoint(folder, latest.path)


def _saver(store: Store, run: str, rank: int) -> Callable[[Any], None]:
    """Uploads a checkpoint file by file, its marker last, and registers it with Ray Train."""
    import ray.train

    from job.train.checkpoint import MARKER, write_checkpoint

    def upload(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        prefix = f"runs/{run}/checkpoints/{name}"
        files = sorted(Path(checkpoint.path).iterdir(), key=lambda file: (file.name == MARKER, file.name))
        for file in files:
            store.upload(f"{prefix}/{file.name}", str(file))
        filesystem, root = store.arrow()
        return ray.train.Checkpoint(f"{root}/{prefix}", filesystem)

    def save(checkpoint: Any) -> None:
        progress = checkpoint.progress
        metrics = {"phase": progress.phase, "epoch": progress.epoch}
        if rank != 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="thaw-") as folder:
            write_checkpoint(folder, checkpoint)
            local = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=local, checkpoint_upload_fn=upload)

    return save


def _write_result(store: Store, run: str, trained: Any, data: Any, keys: pa.ChunkedArray) -> None:
    """The trained variables and the logits on validation and test, and last what was decided (training.json)."""
    import json

    from safetensors.numpy import save

    store.write(f"runs/{run}/head.safetensors", save(trained.head))
    if trained.fine_tuned is not None:
        store.write(f"runs/{run}/fine_tuned.safetensors", save(trained.fine_tuned))
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
    store.write(f"runs/{run}/predictions.parquet", buffer.getvalue())
    decided = {"kept": trained.kept, "converged": trained.converged, "history": trained.history}
    store.write(f"runs/{run}/training.json", json.dumps(decided).encode())
