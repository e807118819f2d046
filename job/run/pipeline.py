"""The stages of a run, in order."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any, NoReturn

import numpy as np
import pyarrow.parquet as pq

from job.config import Job
from job.data.dataset import dataset_key
from job.data.features import forget_part
from job.data.packed import list_shards
from job.data.snapshot import Snapshot
from job.errors import AccessDenied, CorruptFeatures, JobError, Superseded, TrainingError
from job.model.resolved import ResolvedBase
from job.report.events import recorded
from job.run.cluster import ray_cluster
from job.run.extract import extract
from job.run.featurize import Overflow
from job.run.identity import find_run, prepare_base
from job.run.interrupt import Interrupts
from job.run.lease import Lease, take
from job.run.packed import index_shards, without_index
from job.run.plan import Plan, choose_plan, read_plan, write_plan
from job.run.training import run_training
from job.storage import Store, open_store, read_json
from job.storage.scratch import forget_scratch
from job.train.runstate import read_state

Say = Callable[..., None]
"""(kind, fields): what a person is told on the way."""
MAX_CORRUPT = 8
"""Parts of the feature store that one attempt computes again because their bytes are not what was written."""

UNFINISHED = 3600.0
"""Seconds after which a feature that is still half written is nobody's any more."""


def run_job(job: Job, phase: str, say: Say, debug: bool = False, new: bool = False) -> dict[str, Any]:
    """Runs or continues the run and returns {run, snapshot, state, metrics: {head, fine_tune}, model}.

    `phase`: `head` stops after the head's checkpoint, `fine_tune` wants that checkpoint, `all` does what is left.
    `new` begins another run, where there is one of the same thing.
    """
    if phase == "fine_tune" and job.phases.fine_tune is None:
        raise JobError("--phase fine_tune: the job file says phases.fine_tune: null.")
    source, store = open_store(job.data.source), open_store(job.store)
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        say("stage", text=f"listing {source.uri}")
        if job.data.is_packed:
            missing = without_index(job.data, source, store, list_shards(job.data, source))
            if missing:
                stack.enter_context(ray_cluster(job, debug))
                index_shards(job.data, source, store, missing, say)
        found = find_run(job, source, store, say, new)
        run, network = found.run, found.network
        fine_tunes = job.phases.fine_tune is not None and phase != "head"
        say("run", uri=f"{store.uri}runs/{run}/", phases=["head", *["fine_tune"] * fine_tunes])
        finished = read_json(store, f"runs/{run}/result.json")
        if finished is not None:
            say("stage", text="this run is finished: nothing is left to do (--new starts another)")
            return finished
        with take(store, run, say, _leave, interrupts.ask) as lease:
            attempt = _Attempt(job, run, lease, found.snapshot, asdict(found.base), interrupts, say, debug)
            return attempt.go(phase, lambda: network or prepare_base(job, store, say)[1])


def _leave(error: Superseded) -> NoReturn:
    """Ends this process at once, from whatever thread: the run has gone to someone else, and nothing is left to do."""
    sys.stderr.write(f"thaw: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


class _Attempt:
    """One attempt at a run, which it has taken."""

    def __init__(
        self,
        job: Job,
        run: str,
        lease: Lease,
        snapshot: Snapshot,
        base: dict[str, Any],
        interrupts: Interrupts,
        say: Say,
        debug: bool,
    ) -> None:
        self.job, self.run, self.snapshot, self.base = job, run, snapshot, base
        self.store, self.attempt = lease.store, lease.state.ticket.attempt
        self.interrupts, self.say, self.debug = interrupts, say, debug

    def go(self, phase: str, network: Callable[[], Any]) -> dict[str, Any]:
        """Extracts, trains, evaluates and exports what is left; `network` makes what only the plan needs."""
        if phase == "fine_tune" and not self._has_head():
            raise TrainingError(
                f"--phase fine_tune: {self.store.uri}runs/{self.run}/ has no checkpoint of a converged head to start "
                "from. Run `thaw run` with --phase head first, or without --phase for both."
            )
        forget_scratch()
        self._tidy(f"runs/{self.run}/", seconds=0)
        plan = read_plan(self.store, self.run)
        if plan is None:
            plan = choose_plan(self.job, network(), self.snapshot)
            write_plan(self.store, self.run, plan)
        self.say("stage", text=f"cache: {plan.reason}")
        description = self.job.model_dump_json(indent=1, by_alias=True)
        self.store.write(f"runs/{self.run}/job.json", description.encode())
        with ray_cluster(self.job, self.debug):
            until = "head" if phase == "head" or self.job.phases.fine_tune is None else "fine_tune"
            with recorded(self.say, self.store, self.run, self.attempt) as say:
                self._train(plan, until, say)
        return self._finish(stop_at_head=phase == "head")

    def _tidy(self, prefix: str, seconds: float) -> None:
        """Deletes what killed attempts left half written there, so many seconds ago or longer."""
        try:
            self.store.forget_unfinished(prefix, seconds)
        except AccessDenied as error:
            self.say("note", text=f"{error} What earlier attempts left half written stays.")

    def _train(self, plan: Plan, until: str, say: Say) -> None:
        """Extracts and trains; what is found to be corrupt is computed again, and training goes on where it was."""
        for tries in range(MAX_CORRUPT + 1):
            plan = self._extract(plan)
            config = {
                "job": self.job.model_dump(mode="json", by_alias=True),
                "attempt": self.attempt,
                "until": until,
                "snapshot": asdict(self.snapshot),
                "base": self.base,
                "cut": plan.cut,
            }
            try:
                return run_training(self.job, self.run, config, self.interrupts, say)
            except CorruptFeatures as error:
                if tries == MAX_CORRUPT:
                    raise
                self.say("warning", text=f"{error} It is computed again.")
                forget_part(self.store, error.featurizer, error.part)
                self.store.delete(dataset_key(self.run))

    def _extract(self, plan: Plan) -> Plan:
        """Makes the run's data set complete; returns the plan, which has another type where float16 was too small."""
        if self.store.stat(dataset_key(self.run)) is not None:
            return plan
        self._tidy("features/", UNFINISHED)
        arguments = self.job, self.run, self.store, self.snapshot, self.base
        try:
            rejects = extract(*arguments, plan, self.say)
        except Overflow as error:
            self.say("warning", text=f"{error}: they are stored as bfloat16")
            plan = replace(plan, dtype="bfloat16")
            write_plan(self.store, self.run, plan)
            rejects = extract(*arguments, plan, self.say)
        total = sum(self.snapshot.rejects.values()) + len(rejects)
        if total:
            reasons = [f"{key}: {reason}" for key, _, reason in rejects[:3]]
            self.say("rejects", total=total, listing=self.snapshot.rejects, decoding=reasons)
        return plan

    def _has_head(self) -> bool:
        found = read_state(self.store, self.run)
        checkpoints = found[0]["checkpoints"] if found else []
        return any(entry["phase"] == "fine_tune" or entry["finished"] for entry in checkpoints)

    def _finish(self, stop_at_head: bool) -> dict[str, Any]:
        """Evaluates and exports. The result is written last: its existence means that the run is finished."""
        from job.report.export import export_model

        store, run, classes = self.store, self.run, self.snapshot.classes
        metrics = _test_metrics(store, run)
        result = {
            "run": f"{store.uri}runs/{run}/",
            "snapshot": self.snapshot.id,
            "state": "head" if stop_at_head else "finished",
            "metrics": {"head": metrics.get("head"), "fine_tune": metrics.get("fine_tune")},
            "classes": classes,
            "model": None,
        }
        if stop_at_head:
            return result
        self.say("stage", text="exporting the model")
        kept = json.loads(store.read(f"runs/{run}/training.json"))["kept"]
        result["kept"] = kept
        base = ResolvedBase(**self.base)
        result["model"] = export_model(self.job, store, run, self.attempt, classes, base, kept, metrics)
        store.write(f"runs/{run}/result.json", json.dumps(result, indent=1).encode())
        return result


def _test_metrics(store: Store, run: str) -> dict[str, Any]:
    from job.report.metrics import evaluate

    table = pq.read_table(io.BytesIO(store.read(f"runs/{run}/predictions.parquet")))
    table = table.filter(np.array(table["split"].to_pylist()) == "test")
    labels = table["label"].to_numpy()
    models = [name.removeprefix("logits_") for name in table.column_names if name.startswith("logits_")]
    return {name: evaluate(np.array(table[f"logits_{name}"].to_pylist(), np.float32), labels) for name in models}
