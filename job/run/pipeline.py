"""The stages of a run, in order."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from job.config import Job
from job.data.dataset import check_class_weights, dataset_key
from job.data.features import forget_part
from job.data.packed import list_shards
from job.data.snapshot import Snapshot, take_snapshot
from job.errors import CorruptFeatures, JobError, TrainingError
from job.run.cluster import ray_cluster
from job.run.extract import Overflow, extract
from job.run.identity import run_id
from job.run.packed import index_shards
from job.run.plan import Plan, choose_plan, read_plan, write_plan
from job.run.quiet import no_stderr
from job.run.training import run_training
from job.storage import Store, open_store

Say = Callable[..., None]
"""(kind, fields): what a person is told on the way."""
MAX_CORRUPT = 8
"""Parts of the feature store that one attempt computes again because their bytes are not what was written."""


def run_job(job: Job, phase: str, say: Say, debug: bool = False) -> dict[str, Any]:
    """Runs or continues the run and returns {run, snapshot, state, metrics: {head, fine_tune}, model}.

    `phase`: `head` stops after the head's checkpoint, `fine_tune` wants that checkpoint, `all` does what is left.
    """
    if phase == "fine_tune" and job.phases.fine_tune is None:
        raise JobError("--phase fine_tune: the job file says phases.fine_tune: null.")
    source, store = open_store(job.data.source), open_store(job.store)
    with ray_cluster(job, debug) if job.data.is_packed else nullcontext():
        return _run(job, phase, source, store, say, debug)


def _run(job: Job, phase: str, source: Store, store: Store, say: Say, debug: bool) -> dict[str, Any]:
    say("stage", text=f"listing {source.uri}")
    if job.data.is_packed:
        index_shards(job.data, source, store, list_shards(job.data, source), say)
    snapshot = take_snapshot(job.data, source, store)
    say("snapshot", **asdict(snapshot))
    check_class_weights(job.train.class_weights, snapshot.classes)
    base, network = _resolve_base(job, store, say)
    run = run_id(job, snapshot, base)
    say("stage", text=f"run {store.uri}runs/{run}/")
    finished = _read_json(store, f"runs/{run}/result.json")
    if finished is not None:
        say("stage", text="this run is finished: nothing is left to do")
        return finished
    if phase == "fine_tune" and not _has_head(store, run):
        raise TrainingError(
            f"--phase fine_tune: {store.uri}runs/{run}/ has no checkpoint of a converged head to start from. "
            "Run `thaw run` with --phase head first, or without --phase for both."
        )
    plan = read_plan(store, run)
    if plan is None:
        plan = choose_plan(job, network, snapshot)
        write_plan(store, run, plan)
    say("stage", text=f"cache: {plan.reason}")
    store.write(f"runs/{run}/job.json", job.model_dump_json(indent=1, by_alias=True).encode())
    with ray_cluster(job, debug):
        until = "head" if phase == "head" or job.phases.fine_tune is None else "fine_tune"
        _train(job, run, store, snapshot, base, plan, until, say)
    return _finish(job, store, run, snapshot, base, stop_at_head=phase == "head", say=say)


def _train(
    job: Job,
    run: str,
    store: Store,
    snapshot: Snapshot,
    base: dict[str, Any],
    plan: Plan,
    until: str,
    say: Say,
) -> None:
    """Extracts and trains; what is found to be corrupt is computed again, and training goes on where it was."""
    for attempt in range(MAX_CORRUPT + 1):
        plan = _extract(job, run, store, snapshot, base, plan, say)
        config = {
            "job": job.model_dump(mode="json", by_alias=True),
            "until": until,
            "snapshot": asdict(snapshot),
            "base": base,
            "cut": plan.cut,
        }
        try:
            return run_training(job, run, config, say)
        except CorruptFeatures as error:
            if attempt == MAX_CORRUPT:
                raise
            say("warning", text=f"{error} It is computed again.")
            forget_part(store, error.featurizer, error.part)
            store.delete(dataset_key(run))


def _extract(job: Job, run: str, store: Store, snapshot: Snapshot, base: dict[str, Any], plan: Plan, say: Say) -> Plan:
    """Makes the run's data set complete; returns the plan, which has another type where float16 was too small."""
    if store.stat(dataset_key(run)) is not None:
        return plan
    try:
        rejects = extract(job, run, snapshot, base, plan, say)
    except Overflow:
        say("warning", text=f"activations at {plan.cut} are too large for float16: they are stored as bfloat16")
        plan = replace(plan, dtype="bfloat16")
        write_plan(store, run, plan)
        rejects = extract(job, run, snapshot, base, plan, say)
    total = sum(snapshot.rejects.values()) + len(rejects)
    if total:
        reasons = [f"{key}: {reason}" for key, _, reason in rejects[:3]]
        say("rejects", total=total, listing=snapshot.rejects, decoding=reasons)
    return plan


def _resolve_base(job: Job, store: Store, say: Say) -> tuple[dict[str, Any], Any]:
    """The pretrained weights, kept in the store, and the network with the layers thawed that fine-tuning trains."""
    say("stage", text=f"preparing {job.model.backbone}")
    with no_stderr():
        import tensorflow  # noqa: F401
    from job.model.freezing import freeze, thaw
    from job.model.weights import load_base, resolve_base

    resolved = resolve_base(job.model, store, job.train.seed, lambda line: say("note", text=line))
    network = load_base(job.model, store, resolved)
    freeze(network)
    if job.phases.fine_tune is not None:
        thaw(network, job.phases.fine_tune.unfreeze)
    return asdict(resolved), network


def _has_head(store: Store, run: str) -> bool:
    prefix = f"runs/{run}/checkpoints/"
    for info in store.list(prefix):
        if info.key.endswith("/complete.json"):
            progress = _read_json(store, info.key.removesuffix("complete.json") + "progress.json") or {}
            if progress.get("phase") == "fine_tune" or progress.get("finished"):
                return True
    return False


def _finish(
    job: Job, store: Store, run: str, snapshot: Snapshot, base: dict[str, Any], stop_at_head: bool, say: Say
) -> dict[str, Any]:
    """Evaluates and exports. The result is written last: its existence means that the run is finished."""
    from job.model.weights import ResolvedBase
    from job.report.export import export_model

    metrics = _test_metrics(store, run)
    result = {
        "run": f"{store.uri}runs/{run}/",
        "snapshot": snapshot.id,
        "state": "head" if stop_at_head else "finished",
        "metrics": {"head": metrics.get("head"), "fine_tune": metrics.get("fine_tune")},
        "classes": snapshot.classes,
        "model": None,
    }
    if stop_at_head:
        return result
    say("stage", text="exporting the model")
    kept = json.loads(store.read(f"runs/{run}/training.json"))["kept"]
    result["kept"] = kept
    result["model"] = export_model(job, store, run, snapshot.classes, ResolvedBase(**base), kept, metrics)
    store.write(f"runs/{run}/result.json", json.dumps(result, indent=1).encode())
    return result


def _test_metrics(store: Store, run: str) -> dict[str, Any]:
    from job.report.metrics import evaluate

    table = pq.read_table(io.BytesIO(store.read(f"runs/{run}/predictions.parquet")))
    table = table.filter(np.array(table["split"].to_pylist()) == "test")
    labels = table["label"].to_numpy()
    models = [name.removeprefix("logits_") for name in table.column_names if name.startswith("logits_")]
    return {name: evaluate(np.array(table[f"logits_{name}"].to_pylist(), np.float32), labels) for name in models}


def _read_json(store: Store, key: str) -> dict[str, Any] | None:
    return json.loads(store.read(key)) if store.stat(key) is not None else None
