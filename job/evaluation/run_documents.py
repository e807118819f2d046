"""The documents of a finished run in its store, as the report, the model card and the record read them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pyarrow.parquet as pq

from job.config import Job
from job.data.snapshot import Snapshot, stored_snapshot
from job.errors import JobError, ObjectMissing, ThawError
from job.evaluation.predictions import Predictions, read_predictions
from job.features.cache_plan import Plan, read_plan
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.run.outcome import Metrics, PromotionDecision, RunResult, Training
from job.run.run import read_job
from job.run.timings import StageTiming, read_timings
from job.storage import Store, table_errors
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys, run_uri
from job.training.context import WarmStart

MOST_REJECTS = 100
"""The most rejects that are listed by name."""


@dataclass(frozen=True)
class Documents:
    store: Store
    run: str
    job: Job
    snapshot: Snapshot
    result: RunResult
    training: Training
    predictions: Predictions
    plan: Plan | None
    promotion: PromotionDecision | None
    warm_start: WarmStart | None
    base: ResolvedBase | None
    """The pretrained weights; None where the store no longer knows them."""
    listed_rejects: list[tuple[str, str]]
    """Key and reason of the first MOST_REJECTS listed objects that are no examples."""
    decoded_rejects: list[tuple[str, str]]
    """Key and reason of all examples that could not be decoded."""
    timings: list[StageTiming]

    @property
    def uri(self) -> str:
        return run_uri(self.store, self.run)

    @property
    def kept(self) -> str:
        """The exported model: `head` or `fine_tune`."""
        return self.result.kept or self.training.kept

    @property
    def model(self) -> str:
        """The URI of the exported model, which lies in the run's folder, also where the whole run was copied."""
        return self.result.model_of(self.uri)

    @property
    def metrics(self) -> dict[str, Metrics]:
        """The metrics of the tested models, `head` and `fine_tune`, in this order."""
        tested = self.result.tested
        return {name: tested[name] for name in ("head", "fine_tune") if name in tested}

    @property
    def models(self) -> list[str]:
        """The names of the tested models: `head` and `fine_tune`."""
        return list(self.metrics)


def report_uri(store: Store, run: str) -> str | None:
    """The URI of the run's report page; None where there is no page."""
    return f"{store.uri}{RunKeys(run).page}" if store.stat(RunKeys(run).page) else None


def read_documents(store: Store, run: str) -> Documents:
    """The documents of a finished run. Raises JobError where it is not finished, or of another version of Thaw."""
    result = read_document(store, RunKeys(run).result, RunResult)
    where = run_uri(store, run)
    if result is None:
        raise JobError(f"{where}: this run has no result, so there is nothing to report: see `thaw status {where}`.")
    return documents_of(store, run, result)


def documents_of(store: Store, run: str, result: RunResult) -> Documents:
    """The documents of a run with this result, which may not be written yet. Raises as `read_documents`."""
    keys = RunKeys(run)
    training = read_document(store, keys.training, Training)
    job, snapshot = read_job(store, run), stored_snapshot(store, result.snapshot)
    if job is None or training is None or snapshot is None:
        raise ObjectMissing(f"{run_uri(store, run)}: files of this run, or its snapshot, are gone.")
    return Documents(
        store=store,
        run=run,
        job=job,
        snapshot=snapshot,
        result=result,
        training=training,
        predictions=read_predictions(store, run),
        plan=read_plan(store, run),
        promotion=read_document(store, keys.promotion, PromotionDecision),
        warm_start=read_document(store, keys.warm_start, WarmStart),
        base=_base(store, job),
        listed_rejects=_listed(store, snapshot),
        decoded_rejects=_decoded(store, run),
        timings=read_timings(store, run),
    )


def _base(store: Store, job: Job) -> ResolvedBase | None:
    try:
        return known_base(store, weights_request(job.model, job.train.seed))
    except ThawError:  # the weights were given by a URI, and are gone
        return None


def _listed(store: Store, snapshot: Snapshot) -> list[tuple[str, str]]:
    if not snapshot.rejects:
        return []
    filesystem, root = store.arrow()
    key = f"snapshots/{snapshot.id}.rejects.parquet"
    try:
        with table_errors(f"{store.uri}{key}"), pq.ParquetFile(f"{root}/{key}", filesystem=filesystem) as file:
            batch = next(file.iter_batches(MOST_REJECTS, columns=["key", "reason"]), None)
    except ThawError:
        return []
    rows = batch.to_pylist() if batch is not None else []
    return [(row["key"], row["reason"]) for row in rows]


def _decoded(store: Store, run: str) -> list[tuple[str, str]]:
    try:
        lines = store.read(RunKeys(run).rejects).decode().split("\n")
    except ObjectMissing:
        return []
    rows = [json.loads(line) for line in lines if line]
    return [(row["key"], row["reason"]) for row in rows]
