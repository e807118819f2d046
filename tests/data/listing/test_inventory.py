"""An inventory says of a bucket what listing it says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.config import Data
from job.config.jobfile import parse_job
from job.data.caution import Caution
from job.data.listing import source_pages, spooled
from job.data.snapshot import take_snapshot
from job.errors import DataError, JobError
from job.storage import ObjectInfo, Store, open_store
from job.storage.objects import one_by_one

Row = dict[str, Any]
KEYS = [f"{label}/{number:03d} a+b%2B.png" for label in ("cat", "größe") for number in range(30)]
NOW = "2026-11-29T01-00Z"


@pytest.fixture(params=["s3 parquet", "s3 csv", "gs parquet", "gs csv", "gs csv without a header"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    scheme, _, kind = request.param.partition(" ")
    make = request.getfixturevalue("s3_bucket" if scheme == "s3" else "gcs_bucket")
    monkeypatch.setattr(spooled, "SORTED", 17)
    return Bucket(scheme, kind, make)


class Bucket:
    """A bucket with pictures, and its inventory in another one."""

    def __init__(self, scheme: str, kind: str, make: Callable[[], str]) -> None:
        self.scheme, self.kind, self.name = scheme, kind, make()
        self.source = open_store(f"{scheme}://{self.name}/all/")
        for key in KEYS:
            self.source.write(key, key.encode())
        self.root = open_store(f"{scheme}://{make()}/")
        self.folder = "reports/daily/"

    def rows(self) -> list[Row]:
        whole = open_store(f"{self.scheme}://{self.name}/")
        rows = [
            self.row(info)
            for info in [*whole.list(), ObjectInfo("all", 1, "1", 0), ObjectInfo("alley/1.png", 1, "1", 0)]
        ]
        random.Random(0).shuffle(rows)
        return rows

    def row(self, info: ObjectInfo) -> Row:
        written = datetime.fromtimestamp(info.modified or 0, UTC)
        if self.scheme == "s3":
            named = ["bucket", "key", "size", "last_modified_date", "e_tag"]
        else:
            named = ["bucket", "name", "size", "updated", "generation"]
        version: Any = info.version if self.scheme == "s3" else int(info.version)
        return dict(zip(named, (self.name, info.key, info.size, written, version), strict=True))

    def write(self, rows: list[Row], at: str = NOW, **changes: Any) -> None:
        """Writes the rows as two files, and the manifest."""
        half = len(rows) // 2
        written = [self._file(part, f"{at}_{place}") for place, part in enumerate((rows[:half], rows[half:]))]
        manifest = self._s3(at, rows, written) if self.scheme == "s3" else self._gcs(at, rows, written)
        name = f"{at}/manifest.json" if self.scheme == "s3" else f"a-b-c_{at}_manifest.json"
        self.manifest = f"{self.folder}{name}"
        self.root.write(self.manifest, json.dumps({**manifest, **changes}).encode())

    def _file(self, rows: list[Row], name: str) -> str:
        folder = f"{self.folder}data/" if self.scheme == "s3" else self.folder
        if self.kind == "parquet":
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), buffer, row_group_size=7)
            content, key = buffer.getvalue(), f"{folder}{name}.parquet"
        else:
            content, key = self._csv(rows), f"{folder}{name}.csv{'.gz' * (self.scheme == 's3')}"
        self.root.write(key, content)
        return key

    def _csv(self, rows: list[Row]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="," if self.scheme == "s3" else ";", quoting=csv.QUOTE_ALL)
        if self.kind == "csv" and self.scheme == "gs":
            writer.writerow(rows[0])
        for row in rows:
            values = dict(row)
            if self.scheme == "s3":
                values["key"] = quote_plus(values["key"])
                values["last_modified_date"] = f"{values['last_modified_date']:%Y-%m-%dT%H:%M:%S.000Z}"
            else:
                values["updated"] = f"{values['updated']:%Y-%m-%dT%H:%M:%S.%fZ}"
            writer.writerow(str(value).lower() if isinstance(value, bool) else value for value in values.values())
        content = text.getvalue().encode()
        return gzip.compress(content) if self.scheme == "s3" else content

    def _s3(self, at: str, rows: list[Row], files: Sequence[str]) -> dict[str, Any]:
        names = {"last_modified_date": "LastModifiedDate", "e_tag": "ETag", "is_latest": "IsLatest"}
        columns = ", ".join(names.get(name, name.title().replace("_", "")) for name in rows[0])
        return {
            "sourceBucket": self.name,
            "destinationBucket": "arn:aws:s3:::reports",
            "version": "2016-11-30",
            "creationTimestamp": "4102444800000",
            "fileFormat": "CSV" if self.kind == "csv" else "Parquet",
            "fileSchema": columns if self.kind == "csv" else "message s3.inventory { … }",
            "files": [{"key": key, "size": len(self.root.read(key)), "MD5checksum": "0"} for key in files],
        }

    def _gcs(self, at: str, rows: list[Row], files: Sequence[str]) -> dict[str, Any]:
        options = {"delimiter": ";", "header_required": self.kind == "csv"} if "csv" in self.kind else {}
        filters = {"metadata_fields": list(rows[0]), "storage_filters": {"bucket": self.name}}
        return {
            "report_config": {"csv_options": options, "object_metadata_report_options": filters},
            "records_processed": str(len(rows)),
            "snapshot_time": "2100-01-01T00:00:00Z",
            "shard_count": len(files),
            "report_shards_file_names": [key.rpartition("/")[2] for key in files],
        }

    def data(self, where: str = "folder", **more: Any) -> Data:
        inventory = f"{self.root.uri}{self.folder if where == 'folder' else self.manifest}"
        return Data(source=self.source.uri, inventory=inventory, **more)

    def listed(self, where: str = "folder", notes: list[Caution] | None = None) -> list[ObjectInfo]:
        note = [].append if notes is None else notes.append
        return list(one_by_one(source_pages(self.data(where), self.source, note=note)))


@pytest.mark.parametrize("where", ["folder", "manifest"])
def test_an_inventory_is_what_a_listing_is(bucket: Bucket, where: str, store: Store) -> None:
    bucket.write(bucket.rows())
    every, notes = list(bucket.source.list()), list[Caution]()
    found = bucket.listed(where, notes)
    assert found == every
    assert [info.modified for info in found] == pytest.approx([info.modified for info in every], abs=1)
    assert not notes
    data = bucket.data(where, split={"train": 0.4, "validation": 0.3, "test": 0.3})
    listed = data.model_copy(update={"inventory": None})
    assert take_snapshot(data, bucket.source, store) == take_snapshot(listed, bucket.source, store)


def test_the_latest_inventory_of_a_folder_is_taken(bucket: Bucket) -> None:
    rows = bucket.rows()
    bucket.write(rows, at="2026-11-29T01-00Z")
    bucket.write(rows[:20], at="2026-11-28T01-00Z")
    bucket.root.write(f"{bucket.folder}2026-11-30T01-00Z/manifest.checksum", b"is not finished")
    assert bucket.listed() == list(bucket.source.list())
    assert len(bucket.listed("manifest")) <= 20


def test_versions_that_are_gone_are_left_out(bucket: Bucket) -> None:
    rows = bucket.rows()
    key = "key" if bucket.scheme == "s3" else "name"
    old = {**rows[0], key: f"all/{KEYS[0]}", "size": 7}
    gone = {**rows[0], key: "all/cat/deleted.png"}
    if bucket.scheme == "s3":
        current = [{**row, "is_latest": True, "is_delete_marker": False} for row in rows]
        more = [{**old, "is_latest": False, "is_delete_marker": False}]
        more += [{**gone, "size": None, "e_tag": None, "is_latest": True, "is_delete_marker": True}]
    else:
        current = [{**row, "timeDeleted": None} for row in rows]
        more = [{**row, "timeDeleted": "2026-11-01T00:00:00Z"} for row in (old, gone)]
    bucket.write([*current[:9], *more, *current[9:]])
    assert bucket.listed() == list(bucket.source.list())
    bucket.write([*rows, old])
    with pytest.raises(DataError, match=r"has 'cat/000 a\+b%2B.png' twice: add IsLatest"):
        bucket.listed()


def test_what_is_no_inventory_of_the_source_is_an_error(bucket: Bucket) -> None:
    data_uri = f"{bucket.root.uri}{bucket.folder}"
    with pytest.raises(DataError, match=f"there is no manifest.json below {data_uri}"):
        bucket.listed()
    rows = bucket.rows()
    version = "e_tag" if bucket.scheme == "s3" else "generation"
    bucket.write([{name: value for name, value in row.items() if name != version} for row in rows])
    with pytest.raises(DataError, match=rf"has no {version.replace('_', '')} .*add it to the fields"):
        bucket.listed()
    bucket.name = "another"
    bucket.write(rows)
    with pytest.raises(DataError, match="is of the bucket another"):
        bucket.listed()
    for content, problem in (
        (b"{", "is no JSON"),
        (b"[]", "is the manifest of no inventory"),
        (b"{}", "of no inventory"),
    ):
        bucket.root.write(bucket.manifest, content)
        with pytest.raises(DataError, match=problem):
            bucket.listed()
    bucket.root.delete(bucket.manifest)
    with pytest.raises(DataError, match=f"there is no {bucket.root.uri}{bucket.manifest}"):
        bucket.listed("manifest")


@pytest.mark.parametrize("how", ["gone", "cut short"])
def test_a_broken_file_is_named(bucket: Bucket, how: str) -> None:
    bucket.write(bucket.rows())
    file = next(info.key for info in bucket.root.list() if not info.key.endswith("manifest.json"))
    if how == "gone":
        bucket.root.delete(file)
    else:
        content = bucket.root.read(file)
        bucket.root.write(file, content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{file}, which is not there|{file} (can't be read|has [0-9,]+ bytes)"):
        bucket.listed()


@pytest.mark.parametrize("lacking", ["key", "size", "version"])
def test_an_object_without_a_needed_value_is_told(bucket: Bucket, lacking: str) -> None:
    rows, s3 = bucket.rows(), bucket.scheme == "s3"
    name = {"key": "key" if s3 else "name", "size": "size", "version": "e_tag" if s3 else "generation"}[lacking]
    rows[7] = {**rows[7], name: None if bucket.kind == "parquet" else ""}
    if lacking == "key" and s3 and bucket.kind == "csv":
        return  # an empty key is below no source
    bucket.write(rows)
    with pytest.raises(DataError, match=rf"has 1 objects without a {name.replace('_', '')}"):
        bucket.listed()


def test_a_file_of_other_bytes_is_named(s3_bucket: Callable[[], str]) -> None:
    for kind in ("parquet", "csv"):
        bucket = Bucket("s3", kind, s3_bucket)
        bucket.write(bucket.rows())
        file = next(info.key for info in bucket.root.list() if not info.key.endswith("manifest.json"))
        bucket.root.write(file, bytes(len(bucket.root.read(file))))
        with pytest.raises(DataError, match=rf"{file} can't be read"):
            bucket.listed()


def test_a_file_that_lacks_rows_is_told(gcs_bucket: Callable[[], str]) -> None:
    bucket = Bucket("gs", "csv", gcs_bucket)
    bucket.write(bucket.rows(), records_processed="63")
    with pytest.raises(DataError, match="its files have 62 rows, and its manifest says 63"):
        bucket.listed()


def test_an_old_inventory_is_told(bucket: Bucket) -> None:
    taken = (
        {"creationTimestamp": "1514944800000"} if bucket.scheme == "s3" else {"snapshot_time": "2018-01-01T00:00:00Z"}
    )
    notes = list[Caution]()
    bucket.write(bucket.rows(), **taken)
    bucket.listed(notes=notes)
    assert [note.setting for note in notes] == ["data.inventory"]
    assert "days old" in notes[0].text


def test_orc_is_refused(s3_bucket: Callable[[], str]) -> None:
    bucket = Bucket("s3", "parquet", s3_bucket)
    bucket.write(bucket.rows(), fileFormat="ORC")
    with pytest.raises(DataError, match="is of ORC files: have it written as Parquet"):
        bucket.listed()


@pytest.mark.parametrize(
    ("source", "inventory", "more"),
    [
        ("file:///a/", "file:///b/", ""),
        ("s3://abc/a/", "gs://abc/b/", ""),
        ("s3://abc/a/", "file:///b/", ""),
        ("s3://abc/a/", "s3://abc/b/", ", layout: table, table: {text: said}"),
    ],
)
def test_an_inventory_is_of_a_bucket(source: str, inventory: str, more: str) -> None:
    task = "text" if "text" in more else "image"
    with pytest.raises(JobError, match="`inventory` is"):
        parse_job(
            f"{{name: a, task: {task}, data: {{source: '{source}', inventory: '{inventory}'{more}}}, store: 's3://abc/c/'}}"
        )
