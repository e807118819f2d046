"""A run is its inputs: its id is a digest of the job's meaning, the snapshot and the base weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from job.config import GLOVE, Job
from job.data.class_weights import check_class_weights
from job.data.decoding import DECODING
from job.data.forms import form_of
from job.data.snapshot import Snapshot, take_snapshot
from job.data.text import READING, TOKENISER
from job.errors import JobError
from job.libraries import import_tensorflow
from job.model.networks import base_of_store
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.run.events import Announced, Emit, Noted, SnapshotTaken, Warned
from job.run.state import read_state
from job.run.word_vectors import resolve_vectors
from job.storage import ObjectInfo, Store
from job.storage.runs import RunKeys

FORMAT = 2


@dataclass(frozen=True)
class Found:
    """A run and what it is made of."""

    run: str
    first: str
    """The first of the runs of the same thing: `run`, without the number that `--new` gives it."""
    snapshot: Snapshot
    base: ResolvedBase
    network: Any | None
    """Where the base had to be made for this: the network, with the layers thawed that fine-tuning trains."""


def find_run(job: Job, source: Store, store: Store, emit: Emit, new: bool = False) -> Found:
    """Lists the source, resolves the weights, and says which run that is; or, with `new`, another one of the same.

    Imports TensorFlow only where the store does not know the weights yet. Of packed layouts, the indexes of all shards
    must be there.
    """
    snapshot = take_snapshot(job.data, source, store, task=job.task)
    emit(SnapshotTaken(snapshot))
    for caution in snapshot.cautions:
        emit(Warned(f"{caution.setting}: {caution.text}"))
    check_class_weights(job.train.class_weights, snapshot.classes)
    base, network = known_base(store, weights_request(job.model, job.train.seed)), None
    if base is None:
        base, network = prepare_base(job, store, emit)
    first = run_id(job, snapshot, base)
    return Found(latest_run(store, first, new), first, snapshot, base, network)


def prepare_base(job: Job, store: Store, emit: Emit) -> tuple[ResolvedBase, Any]:
    """The pretrained weights, kept in the store, and the network with the layers thawed that fine-tuning trains."""
    emit(Announced(f"preparing {job.model.backbone}"))
    import_tensorflow()
    from job.model.freezing import freeze, thaw
    from job.model.weights import resolve_base

    if job.model.backbone == GLOVE:
        resolved = resolve_vectors(job, store, emit)
        network = base_of_store(job, store, resolved)
    else:
        resolved, network = resolve_base(job.model, store, job.train.seed, log=lambda line: emit(Noted(line)))
    form = form_of(job)
    if network.input_shape[1:] != form.shape:
        raise JobError(f"model.backbone: {job.model.backbone} does not take what `task: {job.task}` gives it.")
    freeze(network)
    if job.phases.fine_tune is not None:
        thaw(network, job.phases.fine_tune.unfreeze)
    return resolved, network


def run_id(job: Job, snapshot: Snapshot, base: ResolvedBase) -> str:
    """`<name>-<12 hex digits>`: the same for every submission of the same thing."""
    return _named(job, {"format": FORMAT, "job": job.meaning(), "snapshot": snapshot.id, "base": asdict(base)})


def listing_id(job: Job, shards: list[ObjectInfo]) -> str:
    """`<name>-<12 hex digits>` of the same job on the same shards, which need not be indexed for this."""
    listed = sorted((shard.key, shard.version) for shard in shards)
    weights = weights_request(job.model, job.train.seed)
    return _named(job, {"format": FORMAT, "job": job.meaning(), "shards": listed, "weights": weights})


def job_id(job: Job) -> str:
    """`<name>-<12 hex digits>` of the same job on the same URIs, whatever is stored there."""
    return _named(job, {"format": FORMAT, "job": job.meaning(), "source": job.data.source, "store": job.store})


def latest_run(store: Store, run: str, another: bool) -> str:
    """The latest of the runs of the same thing, which `--new` numbers (`<run>-2`, …); or, with `another`, one that
    nobody has worked on so far.
    """
    latest, number = run, 1
    if store.stat(RunKeys(run).state) is None:
        return run
    while store.stat(RunKeys(following := f"{run}-{number + 1}").state) is not None:
        latest, number = following, number + 1
    if not another:
        return latest
    found = read_state(store, latest)
    return latest if found and not found.state.attempt else following


def _named(job: Job, meaning: dict[str, Any]) -> str:
    reads = {"tokeniser": TOKENISER, "reading": READING} if job.task == "text" else {"decoding": DECODING}
    meaning = {**meaning, **reads}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return f"{job.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
