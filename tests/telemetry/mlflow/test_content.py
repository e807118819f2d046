"""What MLflow is told of a run, whatever its data and its job file have in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from job.config.jobfile import parse_job
from job.evaluation.run_documents import read_documents
from job.telemetry.mlflow.content import LONGEST, params, points, tags
from support.finished import CLASSES, Made

JOB = "{name: a, data: {source: 's3://bucket/a/'}, store: 's3://bucket/thaw/', %s}"


def test_settings_are_flat_with_their_defaults_and_as_the_job_file_calls_them() -> None:
    found = params(parse_job(JOB % "scaling: {workers: {min: 1, max: 8}}, phases: {fine_tune: {unfreeze: {from: x}}}"))
    assert found["train.batch_size"] == "64"
    assert found["phases.fine_tune.unfreeze.from"] == "x"
    assert (found["scaling.workers.min"], found["scaling.workers.max"]) == ("1", "8")
    assert (found["promote.metric"], found["retrain_when"]) == ("accuracy", "null")
    assert found["model.head.hidden"] == "[256]"
    assert not [name for name in found if name.startswith(("card", "mlflow", "model.max_tokens"))]
    assert "phases.fine_tune" not in found
    assert params(parse_job(JOB % "phases: {fine_tune: null}"))["phases.fine_tune"] == "null"


def test_names_of_classes_are_no_names_of_params(tmp_path: Path) -> None:
    weights = {f"<b>{number}</b>\n😀 {'x' * 200}": 1.5 for number in range(1000)}
    text = yaml.safe_dump({"train": {"class_weights": weights}}, allow_unicode=True)
    job = parse_job(f"name: a\ndata: {{source: 's3://bucket/a/'}}\nstore: s3://bucket/thaw/\n{text}")
    found = params(job)
    assert len(found) < 100
    assert all(name.replace(".", "").replace("_", "").isalnum() for name in found)
    assert found["train.class_weights"].startswith('{"<b>0</b>\\n😀 xxx')
    assert len(found["train.class_weights"]) == LONGEST


def test_both_phases_are_on_one_axis_and_tests_are_at_its_end(tmp_path: Path) -> None:
    found = points(read_documents(*Made(tmp_path).finish()))
    curves = {name: [p.step for p in found if p.name == name] for name in ("train/loss", "validation/accuracy")}
    assert curves == {"train/loss": [1, 2, 3, 4, 5, 6, 7], "validation/accuracy": [1, 2, 3, 4, 5, 6, 7]}
    tested = {p.name: p.value for p in found if p.name.startswith("test/")}
    assert tested["test/accuracy"] == tested["test/fine_tune/accuracy"] != tested["test/head/accuracy"]
    assert {p.step for p in found if p.name.startswith("test/")} == {7}
    assert "test/roc_auc" not in tested, "of a class without a test example there is none"
    losses = [p.value for p in found if p.name == "validation/loss"]
    assert losses[1] != losses[1], "what is not a number is told as it is"


def test_a_run_without_fine_tuning(tmp_path: Path) -> None:
    found = points(read_documents(*Made(tmp_path, fine_tuned=False, classes=CLASSES[:2]).finish()))
    assert {p.name for p in found if p.name.startswith("test/head/")} == {
        f"test/head/{name}" for name in ("accuracy", "balanced_accuracy", "roc_auc", "loss")
    }
    assert max(p.step for p in found) == 4
    assert not [p for p in found if "fine_tune" in p.name]


@pytest.mark.parametrize("task", ["image", "text"])
def test_what_it_is_found_by(tmp_path: Path, task: str) -> None:
    documents = read_documents(*Made(tmp_path, task=task).finish())
    found = tags(documents)
    assert found["thaw.run"] == documents.run
    assert found["thaw.model"].endswith("/model/1/")
    assert found["thaw.promoted"] == "true"
    assert found["thaw.uuid"] == tags(documents)["thaw.uuid"]
    assert ("model.max_tokens" in params(documents.job)) == (task == "text")
