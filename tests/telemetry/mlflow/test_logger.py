"""A finished run in a real MLflow: over SQLite through its client, and once over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from job.errors import AccessDenied, StorageError
from job.evaluation.run_documents import Documents
from job.storage import read_json
from job.storage.run_keys import RunKeys
from job.telemetry.mlflow.logger import LoggedRun, MlflowTarget, log_to_mlflow, read_logged, web_page
from support import tracking

FILES = ["card.md", "model/MLmodel", *(f"model/{name}" for name in [*tracking.MODEL, "files.json"])]
FILES = sorted([*FILES, "record.json", "report.html"])


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where MLflow puts what has no other place."""
    tracking.need_mlflow()
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("mlflow")
        patch.chdir(folder)
        yield folder


@pytest.fixture
def target(place: Path, request: pytest.FixtureRequest) -> MlflowTarget:
    """An experiment and a registered model of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return MlflowTarget(f"sqlite:///{place}/mlflow.db", name, f"model-{name}")


def had(target: MlflowTarget) -> list[dict[str, Any]]:
    return tracking.all_of(target.tracking_uri, target.experiment)


def test_params_curves_documents_and_the_model_are_there_and_a_second_call_changes_nothing(
    tmp_path: Path, target: MlflowTarget
) -> None:
    documents = tracking.finished_run(tmp_path)
    logged = log_to_mlflow(documents, target)
    (found,) = before = had(target)
    assert found["status"] == "FINISHED"
    assert found["params"]["train.batch_size"] == "64"
    assert [step for step, _ in found["metrics"]["train/loss"]] == [1, 2, 3, 4, 5, 6, 7]
    assert found["metrics"]["validation/loss"][1] == (2, "nan")
    assert len(found["metrics"]["test/head/accuracy"]) == 1
    assert found["tags"]["thaw.run"] == documents.run
    assert found["files"] == FILES
    assert found["inputs"] == [("tiny", documents.snapshot.id)]
    ((name, version, source),) = found["versions"]
    assert (name, version, source.endswith("/RUN/artifacts/model")) == (target.registered_model, "1", True)
    assert (logged.version, logged.complete) == ("1", True)
    assert read_logged(documents.store, documents.run, target) == logged
    assert read_logged(documents.store, documents.run, replace(target, registered_model="other")) is None
    assert log_to_mlflow(documents, target) == logged
    documents.store.delete(RunKeys(documents.run).mlflow)
    assert log_to_mlflow(documents, target) == logged
    assert had(target) == before
    log_to_mlflow(documents, replace(target, registered_model=f"{target.registered_model}-2"))
    (found,) = had(target)
    assert len(found["versions"]) == 2


BREAKS = ["log_batch 1", "log_batch 2", "log_inputs 1", "log_artifacts 1", "log_artifacts 2"]
BREAKS += ["create_registered_model 1", "create_model_version 1", "set_terminated 1"]


@pytest.mark.parametrize("place_of_break", BREAKS)
def test_what_was_broken_off_is_completed(
    tmp_path: Path, target: MlflowTarget, place_of_break: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    documents = tracking.finished_run(tmp_path)
    name, number = place_of_break.split()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, name, after(int(number), getattr(MlflowClient, name)))
        with pytest.raises(StorageError, match="the server is gone"):
            log_to_mlflow(documents, target)
    assert read_json(documents.store, RunKeys(documents.run).mlflow)["complete"] is False
    assert [one["status"] for one in had(target)] == ["FINISHED" if name == "set_terminated" else "RUNNING"]
    assert log_to_mlflow(documents, target).complete is True
    (found,) = had(target)
    assert found["status"] == "FINISHED"
    assert found["files"] == FILES
    assert [step for step, _ in found["metrics"]["train/loss"]] == [1, 2, 3, 4, 5, 6, 7]
    assert len(found["metrics"]["test/accuracy"]) == len(found["versions"]) == len(found["inputs"]) == 1


def after(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The call does what it does, but the answer to its `number`-th is lost; so are those after it."""
    calls = []

    def broken(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        answer = real(*arguments, **more)
        if len(calls) >= number:
            raise ConnectionError("the server is gone")
        return answer

    return broken


def test_a_run_that_was_begun_but_not_written_down_is_found_by_its_tag(
    tmp_path: Path, target: MlflowTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = tracking.finished_run(tmp_path)

    def full(*arguments: Any) -> str:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(documents.store, "write_if_unchanged", full)
        with pytest.raises(StorageError, match="the disk is full"):
            log_to_mlflow(documents, target)
    log_to_mlflow(documents, target)
    assert [one["status"] for one in had(target)] == ["FINISHED"]


def test_two_who_begin_at_the_same_time_log_one_run(
    tmp_path: Path, target: MlflowTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    documents, create, others = tracking.finished_run(tmp_path), MlflowClient.create_run, []

    def late(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(MlflowClient, "create_run", create)
        others.append(log_to_mlflow(documents, target))
        return create(*arguments, **more)

    monkeypatch.setattr(MlflowClient, "create_run", late)
    assert log_to_mlflow(documents, target) == others[0]
    assert [one["status"] for one in had(target)] == ["FINISHED"]


def test_what_was_deleted_there_is_logged_anew(tmp_path: Path, target: MlflowTarget) -> None:
    from mlflow import MlflowClient

    documents, client = tracking.finished_run(tmp_path), MlflowClient(target.tracking_uri)
    logged = log_to_mlflow(documents, target)
    client.delete_run(logged.run_id)
    again = log_to_mlflow(documents, target)
    assert again.run_id != logged.run_id
    assert [one["status"] for one in had(target)] == ["FINISHED"]
    client.delete_experiment(logged.experiment_id)
    with pytest.raises(StorageError, match="was deleted: restore it there, or choose another one"):
        log_to_mlflow(documents, target)


def test_a_model_in_a_bucket_stays_there(tmp_path: Path, target: MlflowTarget, s3_bucket: Callable[[], str]) -> None:
    uri = f"s3://{s3_bucket()}/thaw/"
    documents = tracking.moved(tracking.finished_run(tmp_path, task="text", fine_tuned=False), uri)
    log_to_mlflow(documents, target)
    (found,) = had(target)
    assert found["files"] == ["card.md", "record.json", "report.html"]
    model = f"{uri}runs/{documents.run}/model/1/"
    assert found["versions"] == [(target.registered_model, "1", model)]
    described = yaml.safe_load(documents.store.read(f"runs/{documents.run}/model/1/MLmodel"))
    (taken,) = json.loads(described["signature"]["inputs"])
    assert taken["tensor-spec"] == {"dtype": "int64", "shape": [-1, 16]}


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (401, AccessDenied, "refuses (.*): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, AccessDenied, "refuses (.*): set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (503, StorageError, "does not answer (.*503.*): see that it is up"),
        (418, StorageError, "418"),
    ],
)
def test_what_a_server_answers_instead(
    tmp_path: Path, status: int, error: type[StorageError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object, **__: object) -> None:
            pass

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        documents = tracking.finished_run(tmp_path)
        with pytest.raises(StorageError, match=told) as refused:
            log_to_mlflow(documents, MlflowTarget(f"http://127.0.0.1:{server.server_port}", "e", None))
        server.shutdown()
    assert type(refused.value) is error
    assert "\n" not in str(refused.value)
    assert read_json(documents.store, RunKeys(documents.run).mlflow) is None


def test_credentials_in_the_environment_are_told_to_nobody() -> None:
    target = MlflowTarget("https://me:secret@mlflow.example.com:5000/root", "e", None)
    assert target.shown == "https://mlflow.example.com:5000/root"
    page = web_page(LoggedRun(target.shown, "e", None, "3", "abc", version=None, complete=True))
    assert page == "https://mlflow.example.com:5000/root/#/experiments/3/runs/abc"


@pytest.mark.slow
def test_over_http_mlflow_loads_the_model_that_it_was_given(tmp_path: Path, place: Path) -> None:
    import mlflow
    import numpy as np

    from support import finished

    documents: Documents = tracking.finished_run(tmp_path)
    finished.export(documents.store, documents.run, len(documents.snapshot.classes))
    with tracking.mlflow_server(tmp_path) as uri, pytest.MonkeyPatch.context() as patch:
        target = MlflowTarget(uri, "over http", "cells")
        logged = log_to_mlflow(documents, target)
        before = tracking.all_of(uri, target.experiment)
        assert [one["status"] for one in before] == ["FINISHED"]
        assert log_to_mlflow(documents, target) == logged
        assert tracking.all_of(uri, target.experiment) == before
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        model = mlflow.pyfunc.load_model("models:/cells/1")
        answer = model.predict(np.zeros((1, 32, 32, 3), np.float32))
        assert answer.argmax() != 1, "dark"
        assert answer.shape == (1, 3)
