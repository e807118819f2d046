"""The files of a finished run in MLflow: its documents, and its model as one that MLflow's Keras flavour loads.

A model in a bucket stays there, and MLflow links to it; one in a folder of this machine is uploaded.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from job.data.forms import form_of
from job.evaluation.run_documents import Documents
from job.export.checksums import MANIFEST, download_files
from job.report.record import run_uuid
from job.storage import Store, open_store
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

FOLDER = "model"
"""The folder of the uploaded model, among the artifacts."""
OF_A_VERSION = ("thaw.run", "thaw.uri", "thaw.snapshot", "thaw.kept", "thaw.promoted")
"""Tags of the MLflow run that the registered model's version has as well."""


def log_documents(client: MlflowClient, run: Run, documents: Documents) -> None:
    """report.html, card.md and record.json, as far as the run has them; over those that are there."""
    store, id = documents.store, documents.run
    keys = {"report.html": RunKeys(id).page, "card.md": RunKeys(id).card, "record.json": RunKeys(id).record}
    with scratch() as folder:
        for name, key in keys.items():
            if store.stat(key) is not None:
                store.download(key, f"{folder}/{name}")
        client.log_artifacts(run.info.run_id, folder)


def log_model(
    client: MlflowClient, run: Run, documents: Documents, *, registered: str | None, fresh: bool
) -> str | None:
    """Has MLflow know the model, where that is `fresh`, and the registered model have a version of it, which it
    returns; None where none is wanted.
    """
    model = exported_model(documents)
    linked = not model.uri.startswith("file://")
    if fresh:
        _describe(client, run, documents, model=model, linked=linked)
    if registered is None:
        return None
    return _version(client, run, registered, source=model.uri if linked else f"{run.info.artifact_uri}/{FOLDER}")


def exported_model(documents: Documents) -> Store:
    return open_store(documents.model)


def _describe(client: MlflowClient, run: Run, documents: Documents, *, model: Store, linked: bool) -> None:
    text = _mlmodel(documents, run)
    if linked:
        model.write("MLmodel", text.encode())
        return
    with scratch() as folder:
        download_files(model, ("",), Path(folder))
        model.download(MANIFEST, f"{folder}/{MANIFEST}")
        Path(folder, "MLmodel").write_text(text, encoding="utf-8")
        client.log_artifacts(run.info.run_id, folder, FOLDER)


def _mlmodel(documents: Documents, run: Run) -> str:
    """What makes the folder a model of MLflow's: model.keras in it, its input and its output."""
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    form, classes = form_of(documents.job), len(documents.snapshot.classes)
    dtype = np.dtype("float32" if documents.job.task == "image" else form.dtype)
    inputs, outputs = TensorSpec(dtype, (-1, *form.shape)), TensorSpec(np.dtype("float32"), (-1, classes))
    mlmodel = Model(
        run_id=run.info.run_id,
        artifact_path=FOLDER,
        utc_time_created=datetime.fromtimestamp(run.info.start_time / 1000, UTC).replace(tzinfo=None),
        signature=ModelSignature(Schema([inputs]), Schema([outputs])),
        model_uuid=run_uuid(documents.result.run).hex,
    )
    mlmodel.add_flavor("keras", data="model", keras_backend="tensorflow", save_exported_model=False)
    mlmodel.add_flavor("python_function", loader_module="mlflow.keras", python_version=platform.python_version())
    return str(mlmodel.to_yaml())


def _version(client: MlflowClient, run: Run, name: str, *, source: str) -> str:
    from mlflow.exceptions import MlflowException

    for version in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        if version.name == name:
            return str(version.version)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    tags = {name: run.data.tags[name] for name in OF_A_VERSION if name in run.data.tags}
    return str(client.create_model_version(name, source, run.info.run_id, tags).version)
