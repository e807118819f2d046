"""A finished run in MLflow: logged once, however often it is tried, and whoever else tries it.

The MLflow run is found again by `runs/<run>/mlflow.json`, which one writer at a time can claim, or else by its tag
`thaw.uuid`. What it has already is not logged again; its status FINISHED says that it has everything.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from job.errors import AccessDenied, StorageError, ThawError, WriteConflict, headline
from job.evaluation.run_documents import Documents
from job.storage import Store
from job.storage.documents import encoded, read_document, write_document
from job.storage.run_keys import RunKeys
from job.telemetry.mlflow.artifacts import log_documents, log_model
from job.telemetry.mlflow.content import IDENTITY, params, points, tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Values of MLflow's variables, where nobody has set them: a server that is away costs two minutes, not twenty."""
BATCH = 100
"""Params of a request; MLflow takes no more. Of metrics it takes ten times as many."""
UNANSWERED = re.compile(r"too many \d+ error responses|\[Errno -?\d+\] [^'\")]*|timed out|certificate verify failed")
"""What an error of MLflow's client says of the network or of the server, somewhere in a long text."""
TRIES = 3
"""Times that an MLflow run is begun while others begin one."""


@dataclass(frozen=True)
class MlflowTarget:
    tracking_uri: str
    """It may hold credentials, where it comes from the environment."""
    experiment: str
    registered_model: str | None

    @property
    def shown(self) -> str:
        """The tracking URI without credentials."""
        parts = urlsplit(self.tracking_uri)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="").geturl() if "@" in parts.netloc else self.tracking_uri


@dataclass(frozen=True)
class LoggedRun:
    """mlflow.json: where the run is in MLflow."""

    tracking_uri: str
    """Without credentials."""
    experiment: str
    registered_model: str | None
    experiment_id: str
    run_id: str
    version: str | None
    """The version of the registered model."""
    complete: bool
    """Whether MLflow has everything."""

    def is_of(self, target: MlflowTarget) -> bool:
        return (self.tracking_uri, self.experiment) == (target.shown, target.experiment)


def read_logged(store: Store, run: str, target: MlflowTarget) -> LoggedRun | None:
    """mlflow.json, where it says that all is there; MLflow is not asked."""
    logged = read_document(store, RunKeys(run).mlflow, LoggedRun)
    if logged is None or not logged.complete or not logged.is_of(target):
        return None
    return logged if logged.registered_model == target.registered_model else None


def log_to_mlflow(documents: Documents, target: MlflowTarget) -> LoggedRun:
    """Logs what MLflow does not have of the run, and returns mlflow.json. Raises StorageError, AccessDenied."""
    with _errors(target):
        client = _client(target)
        run = _run(client, documents, target)
        fresh = run.info.status != "FINISHED"
        if fresh:
            _log_figures(client, run, documents)
            log_documents(client, run, documents)
        version = log_model(client, run, documents, registered=target.registered_model, fresh=fresh)
        if fresh:
            client.set_terminated(run.info.run_id, "FINISHED", end_time=_span(documents)[1])
    logged = _logged(target, run, version, complete=True)
    write_document(documents.store, RunKeys(documents.run).mlflow, logged)
    return logged


def web_page(logged: LoggedRun) -> str:
    """The page of the MLflow run that mlflow.json names; where MLflow has no pages, the run's URI in it."""
    if logged.tracking_uri.startswith(("http://", "https://")):
        root = logged.tracking_uri.rstrip("/")
        return f"{root}/#/experiments/{logged.experiment_id}/runs/{logged.run_id}"
    return f"runs:/{logged.run_id} in {logged.tracking_uri}"


def _client(target: MlflowTarget) -> MlflowClient:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=target.tracking_uri)


@contextmanager
def _errors(target: MlflowTarget) -> Iterator[None]:
    try:
        yield
    except ThawError:
        raise
    except Exception as error:  # MLflow passes on those of requests, SQLAlchemy and the clouds' clients
        status = getattr(error, "get_http_status_code", lambda: 0)()
        where = f"MLflow at {target.shown}"
        if status in (401, 403):
            raise AccessDenied(
                f"{where} refuses (HTTP {status}): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN, of somebody who may write there."
            ) from error
        text = str(error)
        unanswered = UNANSWERED.search(text)
        if unanswered and ("API request" in text or "Max retries" in text):
            raise StorageError(
                f"{where} does not answer ({unanswered[0]}): see that it is up, and that it can be reached from here."
            ) from error
        raise StorageError(f"{where}: {headline(error).rstrip('.')}.") from error


def _run(client: MlflowClient, documents: Documents, target: MlflowTarget) -> Run:
    """The MLflow run that mlflow.json names; else the first that has the tag; else a new one."""
    experiment, key = _experiment(client, target.experiment), RunKeys(documents.run).mlflow
    query = f"tags.`{IDENTITY}` = '{tags(documents)[IDENTITY]}'"
    for _ in range(TRIES):
        info, known = documents.store.stat(key), read_document(documents.store, key, LoggedRun)
        if known and known.is_of(target):
            run = _active(client, known.run_id)
            if run is not None:
                return run
        runs = client.search_runs([experiment], query, order_by=["attributes.start_time", "attributes.run_id"])
        if runs:
            return runs[0]
        run = client.create_run(experiment, _span(documents)[0], tags(documents), documents.run)
        begun = encoded(_logged(target, run, None, complete=False))
        try:
            documents.store.write_if_unchanged(key, begun, info.version if info else None)
            return run
        except WriteConflict:  # somebody else has begun one at the same time
            client.delete_run(run.info.run_id)
    raise StorageError(f"{documents.store.uri}{key} could not be written in {TRIES} tries: others write it.")


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, which is made where there is none. Raises StorageError where it was deleted."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # somebody else was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise StorageError(f"MLflow's experiment {name!r} was deleted: restore it there, or choose another one.")
    return str(experiment.experiment_id)


def _active(client: MlflowClient, run: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        entity = client.get_run(run)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return entity if entity.info.lifecycle_stage == "active" else None


def _logged(target: MlflowTarget, run: Run, version: str | None, *, complete: bool) -> LoggedRun:
    return LoggedRun(
        tracking_uri=target.shown,
        experiment=target.experiment,
        registered_model=target.registered_model,
        experiment_id=run.info.experiment_id,
        run_id=run.info.run_id,
        version=version,
        complete=complete,
    )


def _span(documents: Documents) -> tuple[int, int]:
    """When the run began and ended, in milliseconds since 1970, as far as its stages and its result tell."""
    info = documents.store.stat(RunKeys(documents.run).result)
    end = info.modified if info and info.modified else time.time()
    return int(1000 * (end - sum(row.seconds for row in documents.timings))), int(1000 * end)


def _log_figures(client: MlflowClient, run: Run, documents: Documents) -> None:
    """Params, metrics and the data set, but for those that are there: MLflow appends metrics, and refuses params."""
    from mlflow.entities import Metric, Param

    id, (_, end) = run.info.run_id, _span(documents)
    missing = [Param(name, value) for name, value in params(documents.job).items() if name not in run.data.params]
    for start in range(0, len(missing), BATCH):
        client.log_batch(id, params=missing[start : start + BATCH])
    there = {(name, metric.step) for name in run.data.metrics for metric in client.get_metric_history(id, name)}
    metrics = [
        Metric(point.name, point.value, end, point.step)
        for point in points(documents)
        if (point.name, point.step) not in there
    ]
    for start in range(0, len(metrics), 10 * BATCH):
        client.log_batch(id, metrics=metrics[start : start + 10 * BATCH])
    _log_data(client, run, documents)


def _log_data(client: MlflowClient, run: Run, documents: Documents) -> None:
    """The examples, with the snapshot's id as their digest. MLflow has the same data set of the same run once."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    snapshot, source = documents.snapshot, documents.job.data.source
    kind = {"s3": "s3", "gs": "gs", "file": "local"}[source.partition("://")[0]]
    profile = json.dumps({"examples": snapshot.examples, "classes": len(snapshot.classes)})
    data = Dataset(documents.job.name, snapshot.id, kind, json.dumps({"uri": source}), profile=profile)
    client.log_inputs(run.info.run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
