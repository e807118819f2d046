"""The record of a run, and the schema that registries go by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.evaluation.run_documents import read_documents
from job.report.record import RunRecord, dataset_name, make_record, recorded_versions, versions_here
from job.storage.run_keys import RunKeys
from support.finished import RUN, Made

SCHEMA = Path(__file__).parents[2] / "docs/run-record.schema.json"


def test_the_schema_in_the_documents_is_that_of_the_code() -> None:
    done = CliRunner().invoke(thaw, ["schema", "--of", "record"])
    assert done.exit_code == 0
    assert SCHEMA.read_text() == done.stdout, "thaw schema --of record > docs/run-record.schema.json"


def test_what_went_in_and_what_came_out(tmp_path: Path) -> None:
    store, run = Made(tmp_path, settings="card: {licence: apache-2.0}").finish()
    documents = read_documents(store, run)
    record = make_record(documents, versions_here())
    written = record.model_dump_json()
    assert RunRecord.model_validate_json(written) == record
    assert "NaN" not in written
    assert (record.run.name, record.job.name, record.kept, record.promoted) == (RUN, "tiny", "fine_tune", True)
    assert (record.attempts, record.seconds, record.licence) == (2, 3690, "apache-2.0")
    inputs = {one.role: one for one in record.inputs}
    assert inputs["examples"].name == f"{tmp_path}/source"
    assert inputs["examples"].version == documents.snapshot.id
    outputs = {one.role: one for one in record.outputs}
    assert (outputs["model"].namespace, outputs["model"].name) == ("file", f"{tmp_path}/store/runs/{RUN}/model/1")
    assert outputs["model"].version == "1"
    accuracy = next(one for one in record.metrics if (one.model, one.name) == ("fine_tune", "accuracy"))
    assert accuracy.low < accuracy.value < accuracy.high  # type: ignore[operator]
    assert accuracy.method == "Wilson"
    assert record.gain is not None
    assert [one.support for one in record.classes] == [20, 20, 0]
    assert record.classes[2].recall is None
    assert {"thaw", "python", "tensorflow", "keras", "ray"} <= record.versions.keys()
    assert record.settings["name"] == "tiny"


def test_a_record_that_is_broken_or_gone_has_no_versions(tmp_path: Path) -> None:
    store, run = Made(tmp_path).finish()
    assert recorded_versions(store, run) == {}
    for content in (b"{", b"[]", json.dumps({"format": 2}).encode()):
        store.write(RunKeys(run).record, content)
        assert recorded_versions(store, run) == {}


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://bucket/a/b/", ("s3://bucket", "a/b")),
        ("gs://bucket", ("gs://bucket", "/")),
        ("file:///data/x/", ("file", "/data/x")),
    ],
)
def test_data_sets_are_named_as_openlineage_names_them(uri: str, named: tuple[str, str]) -> None:
    assert dataset_name(uri) == named
