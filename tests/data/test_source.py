"""Where the examples lie, beside what runs write."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config import Data
from job.config.jobfile import parse_job
from job.data.source import open_source
from job.errors import JobError, ObjectMissing
from job.storage import open_store
from support.listed import list_items

JOB = "name: x\ndata: {source: s3://bucket/all}\nstore: STORE\n"


@pytest.mark.parametrize(
    ("store", "layout"),
    [("s3://bucket/all", "folders"), ("s3://bucket/all/", "parquet"), ("s3://bucket/all/store", "parquet")],
)
def test_a_store_among_the_examples_is_refused(store: str, layout: str) -> None:
    with pytest.raises(JobError, match=rf"store: {store} lies in data.source"):
        open_source(parse_job(JOB.replace("STORE", store), [f"data.layout={layout}"]))


@pytest.mark.parametrize(
    ("store", "more"),
    [
        ("s3://bucket/all-store/", ""),
        ("s3://bucket/", ""),
        ("s3://bucket/all/.thaw/", ""),
        ("s3://bucket/all/store/", ""),
        ("s3://bucket/all/store/", "data={source: s3://bucket/all/, layout: webdataset, exclude: [store/*]}"),
    ],
)
def test_a_store_that_is_not_listed_may_be_anywhere(store: str, more: str) -> None:
    assert open_source(parse_job(JOB.replace("STORE", store), [more] if more else [])).uri == "s3://bucket/all/"


def test_what_runs_write_below_the_source_is_no_example(tmp_path: Path) -> None:
    source, store = open_store(f"file://{tmp_path}"), open_store(f"file://{tmp_path}/store")
    for key in ("cat/1.jpg", "store/runs/1/report/1.jpg", "stored/2.jpg"):
        source.write(key, b"x")
    found = {item.key: item.left_out for item in list_items(Data(source=source.uri), source, store)}
    assert found == {"cat/1.jpg": None, "store/runs/1/report/1.jpg": "in the store", "stored/2.jpg": None}


def test_a_source_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("key,label\n")
    with pytest.raises(ObjectMissing, match=r"labels.csv is a file: name the folder that it is in"):
        list(open_store(f"file://{tmp_path}/labels.csv").list())
