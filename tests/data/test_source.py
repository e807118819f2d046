"""Where the examples lie, beside what runs write."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.data.source import open_source
from job.errors import JobError, ObjectMissing
from job.jobfile import parse_job
from job.storage import open_store

JOB = "name: x\ndata: {source: s3://bucket/all}\nstore: STORE\n"


@pytest.mark.parametrize("store", ["s3://bucket/all", "s3://bucket/all/", "s3://bucket/all/store"])
@pytest.mark.parametrize("layout", ["folders", "parquet"])
def test_a_store_among_the_examples_is_refused(store: str, layout: str) -> None:
    with pytest.raises(JobError, match=rf"store: {store} lies in data.source"):
        open_source(parse_job(JOB.replace("STORE", store), [f"data.layout={layout}"]))


@pytest.mark.parametrize(
    ("store", "more"),
    [
        ("s3://bucket/all-store/", ""),
        ("s3://bucket/", ""),
        ("s3://bucket/all/.thaw/", ""),
        ("s3://bucket/all/store/", "data.exclude=[store/*]"),
        ("s3://bucket/all/store/", "data.include=[cat/*]"),
    ],
)
def test_a_store_that_is_not_listed_may_be_anywhere(store: str, more: str) -> None:
    assert open_source(parse_job(JOB.replace("STORE", store), [more] if more else [])).uri == "s3://bucket/all/"


def test_a_source_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("key,label\n")
    with pytest.raises(ObjectMissing, match=r"labels.csv is a file: name the folder that it is in"):
        list(open_store(f"file://{tmp_path}/labels.csv").list())
