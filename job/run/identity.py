"""A run is its inputs: its id is a digest of the job's meaning, the snapshot and the base weights."""

from __future__ import annotations

import hashlib
import json
import time
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
from job.run.events import Announced, Emit, Noted, ObjectsListed, SnapshotTaken, Warned
from job.run.fake_gpu import FAKE, fake_meaning, fake_rate
from job.run.state import read_state
from job.run.word_vectors import resolve_vectors
from job.storage import ObjectInfo, Store
from job.storage.run_keys import RunKeys

FORMAT = 2
EVERY = 15.0
"""Seconds between two messages of a long listing."""


@dataclass(frozen=True)
class IdentifiedRun:
    """The id of a run, and the inputs that determine it."""

    run: str
    first: str
    """The id of the first run with the same inputs: `run` without the number that `--new` adds."""
    snapshot: Snapshot
    base: ResolvedBase
    network: Any | None
    """The network with thawed layers (see `prepare_base`), where the base had to be prepared; else None."""


def find_run(job: Job, source: Store, store: Store, *, emit: Emit, new: bool = False) -> IdentifiedRun:
    """Lists the source, resolves the weights, and identifies the run with these inputs; with `new`, another one.

    Imports TensorFlow only where the store does not know the weights yet. In packed layouts, all shards must be
    indexed.
    """
    snapshot = take_snapshot(job.data, source, store, task=job.task, listed=_Telling(emit))
    emit(SnapshotTaken(snapshot))
    for caution in snapshot.cautions:
        emit(Warned(f"{caution.setting}: {caution.text}"))
    if (rate := fake_rate(job)) is not None:
        slept = f"networks on GPUs are a sleep of {rate:g} examples a second"
        emit(Warned(f"{FAKE}: {slept}, and what this run trains is worth nothing"))
    check_class_weights(job.train.class_weights, snapshot.classes)
    base, network = known_base(store, weights_request(job.model, job.train.seed)), None
    if base is None:
        base, network = prepare_base(job, store, emit)
    first = run_id(job, snapshot, base)
    return IdentifiedRun(latest_run(store, first, new), first, snapshot, base, network)


class _Telling:
    """Emits how many objects are listed, now and then."""

    def __init__(self, emit: Emit) -> None:
        self._emit, self._latest = emit, time.monotonic()

    def __call__(self, count: int) -> None:
        if time.monotonic() - self._latest >= EVERY:
            self._latest = time.monotonic()
            self._emit(ObjectsListed(count))


def prepare_base(job: Job, store: Store, emit: Emit) -> tuple[ResolvedBase, Any]:
    """Stores the pretrained weights. Returns them, and the network in which the layers that fine-tuning trains are
    thawed. Raises JobError.
    """
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
    """The id of a run, `<name>-<12 hex digits>`, which is the same whenever its inputs are."""
    return _named(job, {"format": FORMAT, "job": job.meaning(), "snapshot": snapshot.id, "base": asdict(base)})


def listing_id(job: Job, shards: list[ObjectInfo]) -> str:
    """An id, `<name>-<12 hex digits>`, of the job and its shards, which need not be indexed."""
    listed = sorted((shard.key, shard.version) for shard in shards)
    weights = weights_request(job.model, job.train.seed)
    return _named(job, {"format": FORMAT, "job": job.meaning(), "shards": listed, "weights": weights})


def job_id(job: Job) -> str:
    """An id, `<name>-<12 hex digits>`, of the job and its URIs, whatever is stored there."""
    return _named(job, {"format": FORMAT, "job": job.meaning(), "source": job.data.source, "store": job.store})


def latest_run(store: Store, run: str, another: bool) -> str:
    """The latest run with the same inputs; `--new` numbers them (`<run>-2`, …). With `another`, one without an
    attempt.
    """
    latest, number = run, 1
    if store.stat(RunKeys(run).state) is None:
        return run
    while store.stat(RunKeys(following := f"{run}-{number + 1}").state) is not None:
        latest, number = following, number + 1
    if not another:
        return latest
    versioned = read_state(store, latest)
    return latest if versioned and not versioned.state.attempt else following


def _named(job: Job, meaning: dict[str, Any]) -> str:
    reads = {"tokeniser": TOKENISER, "reading": READING} if job.task == "text" else {"decoding": DECODING}
    meaning = {**meaning, **reads, **fake_meaning(job)}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return f"{job.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
