"""The documents of a finished run in its store, as the report, the model card and the record read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from job.config import Job
from job.data.snapshot import Snapshot, stored_snapshot
from job.errors import JobError, ObjectMissing, ThawError
from job.evaluation.predictions import Predictions, read_predictions
from job.model.resolved import ResolvedBase, known_base, weights_request
from job.run.outcome import Training
from job.run.timings import StageTiming, read_timings
from job.storage import Store, read_json, table_errors
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys, run_uri

MOST_REJECTS = 100
"""The most rejects that are listed by name."""


@dataclass(frozen=True)
class Documents:
    store: Store
    run: str
    job: Job
    snapshot: Snapshot
    result: dict[str, Any]
    training: Training
    predictions: Predictions
    plan: dict[str, Any] | None
    promotion: dict[str, Any] | None
    warm_start: dict[str, Any] | None
    words: dict[str, Any] | None
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
        return self.result["kept"]

    @property
    def models(self) -> list[str]:
        """The names of the tested models: `head` and `fine_tune`."""
        return [name for name in ("head", "fine_tune") if self.result["metrics"].get(name)]


def report_uri(store: Store, run: str) -> str | None:
    """The URI of the run's report page; None where there is no page."""
    return f"{store.uri}{RunKeys(run).page}" if store.stat(RunKeys(run).page) else None


def read_documents(store: Store, run: str) -> Documents:
    """The documents of a finished run. Raises JobError where it is not finished, or of another version of Thaw."""
    result = read_json(store, RunKeys(run).result)
    where = run_uri(store, run)
    if result is None:
        raise JobError(f"{where}: this run has no result, so there is nothing to report: see `thaw status {where}`.")
    return documents_of(store, run, result)


def documents_of(store: Store, run: str, result: dict[str, Any]) -> Documents:
    """The documents of a run with this result, which may not be written yet. Raises as `read_documents`."""
    named = {name: read_json(store, RunKeys(run).named(name)) for name in ("job", "plan")}
    training = read_document(store, RunKeys(run).training, Training)
    more = {name: read_json(store, RunKeys(run).named(name)) for name in ("promotion", "warm_start", "words")}
    snapshot = stored_snapshot(store, result["snapshot"])
    if named["job"] is None or training is None or snapshot is None:
        raise ObjectMissing(f"{run_uri(store, run)}: files of this run, or its snapshot, are gone.")
    try:
        job = Job.model_validate(named["job"])
    except ValidationError as error:
        raise JobError(f"{store.uri}{RunKeys(run).job} is that of another version of Thaw.") from error
    return Documents(
        store,
        run,
        job,
        snapshot,
        result,
        training,
        read_predictions(store, run),
        named["plan"],
        **more,
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
