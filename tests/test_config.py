from __future__ import annotations

import json
from pathlib import Path

import pytest

from job.config import Weights, job_schema
from job.errors import JobError
from job.jobfile import load_job, parse_job

JOB = """
name: cells
data: {source: s3://bucket/cells/}
store: s3://bucket/thaw/
"""


def test_a_short_job_file_has_every_default() -> None:
    job = parse_job(JOB)
    assert job.model.weights_source == "package"
    assert job.phases.fine_tune.unfreeze.blocks == 2
    assert job.train.batch_size == 64


def test_numbers_without_a_point_are_numbers() -> None:
    assert parse_job(JOB, ["phases.head.learning_rate=1e-4"]).phases.head.learning_rate == 1e-4


def test_overrides_reach_nested_keys_and_are_checked() -> None:
    job = parse_job(JOB, ["model.backbone=vgg19", "model.weights=none", "phases.fine_tune={unfreeze: {from: x}}"])
    assert job.phases.fine_tune.unfreeze.from_ == "x"
    assert parse_job(JOB, ["phases.fine_tune=null"]).phases.fine_tune is None


def test_weights_by_uri_may_be_a_string() -> None:
    assert parse_job(JOB, ["model.weights=gs://bucket/w.h5"]).model.weights == Weights(uri="gs://bucket/w.h5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.seed=1", "job file: trian: unknown key (nearest: 'train')."),
        ("model.bakbone=x", "job file: model.bakbone: unknown key (nearest: 'backbone')."),
        ("phases.fine_tune={unfreez: 1}", "job file: phases.fine_tune.unfreez: unknown key (nearest: 'unfreeze')."),
        ("data.split={train: 0.9}", "job file: data.split: train + validation + test must be 1, got 1.2."),
        ("store=bucket/x", "job file: store: a URI must begin with s3://, gs:// or file://, got 'bucket/x'."),
        (
            "model.weights=imagnet",
            "job file: model.weights: weights are `imagenet`, `package`, `none` or a URI, not 'imagnet'.",
        ),
        (
            "phases.fine_tune={unfreeze: {blocks: 2, from: x}}",
            "job file: phases.fine_tune.unfreeze: exactly one of `blocks`, `from`, `match` is needed, got blocks, from.",  # noqa: E501
        ),
        ("train.batch_size=0", "job file: train.batch_size: input should be greater than 0, got 0."),
        ("train.batch_size", "--set train.batch_size: write it as a.b=value, for example train.seed=1."),
    ],
)
def test_a_wrong_setting_is_answered_with_what_it_got(override: str, message: str) -> None:
    with pytest.raises(JobError) as caught:
        parse_job(JOB, [override])
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["a: [", "- a", "", "\t"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="job file: "):
        parse_job(text)


def test_meaning_leaves_out_what_cannot_change_the_result() -> None:
    same = parse_job(JOB, ["scaling.workers=7", "store=gs://other/thaw/", "data.source=gs://other/cells/"])
    assert parse_job(JOB).meaning() == same.meaning()
    assert parse_job(JOB).meaning() != parse_job(JOB, ["train.seed=1"]).meaning()


def test_the_schema_describes_every_section() -> None:
    schema = json.loads(json.dumps(job_schema()))
    assert set(schema["properties"]) >= {"name", "data", "store", "model", "phases", "train", "scaling"}
    assert "global batch size" in schema["$defs"]["Train"]["properties"]["batch_size"]["description"]


@pytest.mark.parametrize("file", sorted(Path(__file__).parents[1].glob("examples/*.yaml")), ids=lambda file: file.name)
def test_the_examples_are_valid(file: Path) -> None:
    load_job(file)
