"""MLflow for the tests: a finished run to log, what MLflow has of it, and a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from job.evaluation.run_documents import Documents, read_documents
from job.export.checksums import upload_files
from job.report.record import make_record
from job.storage import Store, open_store
from job.storage.run_keys import RunKeys
from support.finished import Made
from support.servers import answering, free_port
from support.tools import leave_out

MODEL = {"model.keras": b"weights", "labels.json": b"{}", "saved_model/saved_model.pb": b"graph"}


def need_mlflow() -> None:
    missing = [name for name in ("mlflow", "sqlalchemy", "alembic") if find_spec(name) is None]
    if missing:
        leave_out(f"{', '.join(missing)} is not installed")


def finished_run(folder: Path, **made: Any) -> Documents:
    """With its documents, and a model that is none."""
    store, run = Made(folder, **made).finish()
    model = folder / "exported"
    for name, content in MODEL.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    upload_files(store, f"runs/{run}/model/1/", model)
    documents = read_documents(store, run)
    store.write(RunKeys(run).page, b"<h1>a report</h1>")
    store.write(RunKeys(run).card, b"# a card")
    store.write(RunKeys(run).record, make_record(documents, {}).model_dump_json().encode())
    return documents


def moved(documents: Documents, uri: str) -> Documents:
    """The same run in another store, with all that the first one has."""
    store: Store = open_store(uri)
    for info in list(documents.store.list()):
        store.write(info.key, documents.store.read(info.key))
    return replace(documents, store=store)


def all_of(uri: str, experiment: str) -> list[dict[str, Any]]:
    """What MLflow has of each run that is not deleted, without what is made anew each time."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return [_one(client, run) for run in client.search_runs([found.experiment_id])] if found else []


def _one(client: Any, run: Any) -> dict[str, Any]:
    id = run.info.run_id
    versions = client.search_model_versions(f"run_id = '{id}'")
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {
            name: sorted((m.step, str(m.value)) for m in client.get_metric_history(id, name))
            for name in run.data.metrics
        },
        "files": sorted(_files(client, id, None)),
        "inputs": [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs],
        "versions": [(v.name, str(v.version), v.source.replace(id, "RUN")) for v in versions],
    }


def _files(client: Any, id: str, folder: str | None) -> Iterator[str]:
    for file in client.list_artifacts(id, folder):
        if file.is_dir:
            yield from _files(client, id, file.path)
        else:
            yield file.path


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """`mlflow server` over SQLite, which also takes the artifacts."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    before = {name: os.environ.get(name) for name in quiet}
    os.environ.update(quiet)
    try:
        with answering(command, f"http://127.0.0.1:{port}/health", patience=120):
            yield f"http://127.0.0.1:{port}"
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
