"""A run that is to be logged to MLflow, at its end and afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from job import entry
from job.cli import thaw
from job.config import MLflow
from job.config.jobfile import parse_job
from job.errors import JobError, StorageError
from job.evaluation.run_documents import Documents
from job.model.resolved import ResolvedBase
from job.run.identity import IdentifiedRun
from job.run.outcome import RunOutcome
from job.telemetry.logged import check_mlflow, log_run, with_mlflow
from job.telemetry.observed import run_observed
from support import tracking
from support.events import Heard
from support.results import run_result
from support.servers import free_port

JOB = "{name: a, data: {source: 's3://bucket/a/'}, store: 's3://bucket/thaw/', mlflow: %s}"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking.need_mlflow()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def logged(documents: Documents, uri: str, told: Heard) -> str | None:
    """Where the end of a run has logged it."""
    job = documents.job.model_copy(update={"mlflow": MLflow(tracking_uri=uri)})
    outcome = with_mlflow(job, RunOutcome(documents.result), told)
    assert outcome.as_json()["mlflow"] == (outcome.mlflow or None)
    return outcome.mlflow


def test_a_server_that_is_away_costs_a_finished_run_a_warning_and_afterwards_it_is_logged(tmp_path: Path) -> None:
    documents, told, uri = tracking.finished_run(tmp_path), Heard(), f"http://127.0.0.1:{free_port()}"
    assert logged(documents, uri, told) == ""
    assert told.of("warning") == [
        f"MLflow at {uri} does not answer ([Errno 111] Connection refused): see that it is up, and that it "
        f"can be reached from here. The run is finished; `thaw mlflow {documents.uri}` logs it."
    ]
    with pytest.raises(StorageError, match="does not answer"):
        log_run(documents.uri, uri, None, registered_model=None, emit=told)
    there = f"sqlite:///{tmp_path}/mlflow.db"
    arguments = ["mlflow", documents.uri, "--tracking-uri", there, "--registered-model", "cells"]
    done = CliRunner().invoke(thaw, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("runs:/")
    (found,) = tracking.all_of(there, "tiny")
    assert (found["status"], [name for name, *_ in found["versions"]]) == ("FINISHED", ["cells"])


def test_thaw_run_logs_a_run_that_is_finished_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the retry of a RayJob does whose first attempt was lost after its result."""
    documents, there = tracking.finished_run(tmp_path), f"sqlite:///{tmp_path}/mlflow.db"
    found = IdentifiedRun(documents.run, documents.run, documents.snapshot, ResolvedBase("0" * 64), None)
    monkeypatch.setattr(entry, "find_run", lambda *_, **__: found)
    job = documents.job.model_copy(update={"mlflow": MLflow(tracking_uri=there, registered_model="cells")})
    outcome = run_observed(job, "all", Heard())
    (logged,) = tracking.all_of(there, "tiny")
    assert str(outcome.mlflow).startswith("runs:/")
    assert (logged["status"], len(logged["versions"])) == ("FINISHED", 1)


def test_a_run_that_is_logged_does_not_ask_mlflow_again(tmp_path: Path) -> None:
    documents, told, there = tracking.finished_run(tmp_path), Heard(), f"sqlite:///{tmp_path}/mlflow.db"
    first = logged(documents, there, told)
    (tmp_path / "mlflow.db").unlink()
    assert logged(documents, there, told) == first
    assert str(first).startswith("runs:/")
    assert not (tmp_path / "mlflow.db").exists()
    assert not [text for text in told.texts if text.startswith("warning")]


def test_nothing_is_logged_that_was_not_asked_for_or_has_no_model(tmp_path: Path) -> None:
    job, told = parse_job(JOB % "{tracking_uri: 'http://127.0.0.1:9'}"), Heard()
    without, exported = (RunOutcome(run_result("s3://b/runs/a/", model=model)) for model in (None, "s3://b/m/"))
    assert with_mlflow(job, without, told) == without
    assert with_mlflow(parse_job(JOB % "null"), exported, told) == exported
    assert "mlflow" not in exported.as_json()
    assert told == []


def test_a_job_that_names_no_server_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    check_mlflow(parse_job(JOB % "null"))
    with pytest.raises(JobError, match="name it there, or in the variable MLFLOW_TRACKING_URI"):
        check_mlflow(parse_job(JOB % "{}"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    check_mlflow(parse_job(JOB % "{}"))


@pytest.mark.parametrize("uri", ["https://me:hunter2@host/", "postgresql://me:hunter2@host/db", "https://h/?k=hunter2"])
def test_credentials_in_the_job_file_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(JobError, match="MLFLOW_TRACKING_PASSWORD") as refused:
        parse_job(JOB % json.dumps({"tracking_uri": uri}))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "settings", ["{tracking_uri: mlflow.example.com}", "{registered_model: 'a/b'}", "{register: x}"]
)
def test_what_else_the_section_refuses(settings: str) -> None:
    with pytest.raises(JobError):
        parse_job(JOB % settings)


def test_logging_is_not_in_the_meaning_of_a_job() -> None:
    assert parse_job(JOB % "{experiment: x}").meaning() == parse_job(JOB % "null").meaning()
