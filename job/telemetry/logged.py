"""A finished run in MLflow: where its job asks for that, and where somebody asks for it afterwards."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec

from job.config import Job, MLflow
from job.config.jobfile import checked
from job.errors import Interrupted, JobError, Superseded, ThawError, headline
from job.evaluation.run_documents import read_documents, report_uri
from job.run.events import Announced, Emit, Warned
from job.run.outcome import RunOutcome
from job.run.run import open_run
from job.storage import open_store
from job.storage.run_keys import run_id_of, run_uri
from job.telemetry.mlflow.logger import LoggedRun, MlflowTarget, log_to_mlflow, read_logged, web_page

VARIABLE = "MLFLOW_TRACKING_URI"


def check_mlflow(job: Job) -> None:
    """Raises JobError, before anything is computed, where the job can't be logged as it asks."""
    if job.mlflow is not None:
        _target(job.mlflow, job.name)


def with_mlflow(job: Job, outcome: RunOutcome, emit: Emit) -> RunOutcome:
    """The outcome with `mlflow`, where the job asks for it; that MLflow fails costs the run nothing."""
    if job.mlflow is None or outcome.result.model is None:
        return outcome
    store, run = open_store(job.store, job.storage), run_id_of(outcome.result.run)
    try:
        target = _target(job.mlflow, job.name)
        logged = read_logged(store, run, target)
        if logged is None:
            emit(Announced(f"logging to MLflow at {target.shown}"))
            logged = log_to_mlflow(read_documents(store, run), target)
        return replace(outcome, mlflow=web_page(logged))
    except (Interrupted, Superseded):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, ThawError) else f"Not logged to MLflow: {headline(error)}."
        emit(Warned(f"{text} The run is finished; `thaw mlflow {run_uri(store, run)}` logs it."))
        return replace(outcome, mlflow="")


def log_run(
    uri: str, tracking_uri: str | None, experiment: str | None, *, registered_model: str | None, emit: Emit
) -> LoggedRun:
    """Logs what MLflow lacks of a finished run. What is None is as its job file says it.

    Raises JobError, StorageError.
    """
    store, run = open_run(uri)
    documents = read_documents(store, run)
    asked = {"tracking_uri": tracking_uri, "experiment": experiment, "registered_model": registered_model}
    stated = (documents.job.mlflow or MLflow()).model_dump()
    given = {name: value for name, value in asked.items() if value is not None}
    target = _target(checked(MLflow, {**stated, **given}, "thaw mlflow"), documents.job.name)
    if report_uri(store, run) is None:
        emit(Announced("making the report"))
        from job.report.finished import write_report

        write_report(documents, lambda text: emit(Warned(text)))
    emit(Announced(f"logging to MLflow at {target.shown}"))
    return log_to_mlflow(documents, target)


def _target(settings: MLflow, job: str) -> MlflowTarget:
    if find_spec("mlflow") is None:
        raise JobError("MLflow's client is not installed: pip install 'thaw[mlflow]'.")
    uri = settings.tracking_uri or os.environ.get(VARIABLE)
    if not uri:
        raise JobError(f"mlflow.tracking_uri: no tracking server: name it there, or in the variable {VARIABLE}.")
    return MlflowTarget(uri, settings.experiment or job, settings.registered_model)
