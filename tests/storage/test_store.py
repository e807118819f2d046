"""One contract for s3://, gs:// and file://, against real servers."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.errors import JobError, ObjectMissing, StorageError, WriteConflict
from job.storage import ObjectInfo, Store, arrow_errors, open_store, read_json, split_uri
from job.storage.filesystem import LocalStore

TRICKY = ["a-b", "a b+c%20.png", "a.b", "a/b", "a/c d+e%2F#?.png", "a0", "e\u0301", "é", "ê/ü;x=1&y.png", "z", "😀"]
OPAQUE = ["/leading", "a//b", "../up", "a/../b", "a/./c", "back\\slash", "<&>\"'", "tab\t"]


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


def test_bytes_come_back_as_they_were_written(store: Store) -> None:
    version = store.write("a/b", b"one")
    assert store.read("a/b") == b"one"
    assert store.stat("a/b") == ObjectInfo("a/b", 3, version)
    assert list(store.list()) == [ObjectInfo("a/b", 3, version)]


def test_it_is_known_when_an_object_was_written(store: Store) -> None:
    store.write("a/b", b"one")
    (listed,), looked_at = store.list(), store.stat("a/b")
    assert looked_at is not None
    assert looked_at.modified == pytest.approx(time.time(), abs=60)
    assert listed.modified == pytest.approx(looked_at.modified, abs=1)


def test_a_version_that_was_overwritten_is_missing(store: Store) -> None:
    first = store.write("a/b.png", b"first")
    assert store.read("a/b.png", first) == b"first"
    second = store.write("a/b.png", b"other")
    assert store.read("a/b.png", second) == b"other"
    with pytest.raises(ObjectMissing, match=r"a/b\.png"):
        store.read("a/b.png", first)


def test_json_is_read_and_none_where_there_is_no_object(store: Store) -> None:
    assert read_json(store, "a/b.json") is None
    store.write("a/b.json", '{"ä": [1, null]}'.encode())
    assert read_json(store, "a/b.json") == {"ä": [1, None]}


@pytest.mark.parametrize("content", [b"", b'{"a":', b"\xff\xfe{"])
def test_what_is_no_json_is_named(store: Store, content: bytes) -> None:
    store.write("a/b.json", content)
    with pytest.raises(StorageError, match=rf"{store.uri}a/b\.json is no JSON \(.*\): delete it, and run again"):
        read_json(store, "a/b.json")


def test_an_empty_object_is_an_object(store: Store) -> None:
    version = store.write("empty", b"")
    assert store.read("empty") == b""
    assert list(store.list()) == [ObjectInfo("empty", 0, version)]


def test_each_write_is_a_new_version(store: Store) -> None:
    versions = {store.write("a", bytes([i])) for i in range(20)}
    assert len(versions) == 20
    assert store.read("a") == bytes([19])


def test_a_missing_object_is_named(store: Store, tmp_path: Path) -> None:
    store.write("there/file", b"x")
    for key in ("nothing", "there", "there/file/below"):
        assert store.stat(key) is None
        with pytest.raises(ObjectMissing, match=f"{key} does not exist"):
            store.read(key)
        with pytest.raises(ObjectMissing, match=f"{key} does not exist"):
            store.download(key, str(tmp_path / "never"))
        store.delete(key)
    assert not (tmp_path / "never").exists()
    assert store.read("there/file") == b"x"


def test_a_deleted_object_is_gone_and_can_be_deleted_again(store: Store) -> None:
    store.write("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert store.stat("a/b") is None
    assert list(store.list()) == []


def test_listing_is_in_the_order_of_utf8_bytes_in_every_store(store: Store) -> None:
    for key in reversed(TRICKY):
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == sorted(TRICKY, key=str.encode)
    assert all(store.read(info.key) == info.key.encode() for info in store.list())


@pytest.mark.parametrize(
    ("prefix", "keys"),
    [
        ("a/", ["a/b", "a/c/d", "a/c/e"]),
        ("a", ["a-b", "a/b", "a/c/d", "a/c/e", "a0"]),
        ("a/c/", ["a/c/d", "a/c/e"]),
        ("a/c/e", ["a/c/e"]),
        ("a/b/", []),
        ("absent/", []),
        ("absent/deeper/x", []),
    ],
)
def test_a_prefix_is_a_prefix_of_characters(store: Store, prefix: str, keys: list[str]) -> None:
    for key in ("a/c/e", "a/c/d", "a-b", "a/b", "a0", "b"):
        store.write(key, b"")
    assert [info.key for info in store.list(prefix)] == keys


def test_a_store_sees_only_its_own_folder(store: Store) -> None:
    store.write("in/x", b"1")
    store.write("in-between", b"2")
    below = open_store(f"{store.uri}in")
    assert below.uri == f"{store.uri}in/"
    assert [info.key for info in below.list()] == ["x"]
    assert below.read("x") == b"1"


@pytest.mark.slow
def test_listing_goes_over_many_pages(s3_bucket: Callable[[], str]) -> None:
    store = open_store(f"s3://{s3_bucket()}/")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.write(f"{i:05d}", b"x"), range(2500)))
    assert [info.key for info in store.list()] == [f"{i:05d}" for i in range(2500)]


def test_directory_markers_are_not_objects(store: Store) -> None:
    if isinstance(store, LocalStore):
        Path(store.root, "made/by a console").mkdir(parents=True)
    else:
        store.write("made/by a console/", b"")
    store.write("made/file", b"")
    assert [info.key for info in store.list()] == ["made/file"]


@pytest.mark.parametrize("key", OPAQUE)
def test_a_key_of_a_bucket_is_opaque(key: str, s3_bucket: Callable[[], str], gcs_bucket: Callable[[], str]) -> None:
    for uri in (f"s3://{s3_bucket()}/x/", f"gs://{gcs_bucket()}/x/"):
        store = open_store(uri)
        version = store.write(key, b"bytes")
        assert store.read(key) == b"bytes"
        assert list(store.list()) == [ObjectInfo(key, 5, version)]
        assert open_store(uri.removesuffix("x/")).read(f"x/{key}") == b"bytes"


def test_a_key_that_is_no_unicode_is_a_storage_error(store: Store) -> None:
    for key in ("half\ud800", "byte\udcff"):
        with pytest.raises(StorageError, match="surrogates not allowed"):
            store.write(key, b"")
        with pytest.raises(StorageError, match="surrogates not allowed"):
            store.read(key)


def test_folders_with_an_empty_name_are_kept_apart(s3_bucket: Callable[[], str], gcs_bucket: Callable[[], str]) -> None:
    for bucket in (f"s3://{s3_bucket()}", f"gs://{gcs_bucket()}"):
        root, name = split_uri(f"{bucket}/dir//name")
        open_store(root).write(name, b"x")
        assert open_store(f"{bucket}/dir/").stat("name") is None
        assert [info.key for info in open_store(f"{bucket}/dir").list()] == ["/name"]
        filesystem, path = open_store(root).arrow()
        with filesystem.open_input_stream(f"{path}/{name}") as file:
            assert file.read() == b"x"


def test_a_conditional_write_is_refused_when_someone_else_wrote(store: Store) -> None:
    first = store.write_if_unchanged("current.json", b"1", None)
    with pytest.raises(WriteConflict, match=r"current\.json"):
        store.write_if_unchanged("current.json", b"2", None)
    second = store.write_if_unchanged("current.json", b"3", first)
    with pytest.raises(WriteConflict):
        store.write_if_unchanged("current.json", b"4", first)
    assert store.read("current.json") == b"3"
    assert [(info.key, info.version) for info in store.list()] == [("current.json", second)]


def test_a_conditional_write_over_a_deleted_object_is_refused(store: Store) -> None:
    version = store.write("current.json", b"1")
    store.delete("current.json")
    with pytest.raises(WriteConflict):
        store.write_if_unchanged("current.json", b"2", version)
    assert store.stat("current.json") is None


def test_of_racing_writers_exactly_one_creates_the_object(store: Store) -> None:
    winners = _race(store, None)
    assert len(winners) == 1
    assert store.read("taken") == winners[0]


def test_of_racing_writers_exactly_one_replaces_the_object(store: Store) -> None:
    winners = _race(store, store.write("taken", b"-"))
    assert len(winners) == 1
    assert store.read("taken") == winners[0]


def _race(store: Store, version: str | None) -> list[bytes]:
    def write(data: bytes) -> bytes | None:
        try:
            store.write_if_unchanged("taken", data, version)
        except WriteConflict:
            return None
        return data

    with ThreadPoolExecutor(4) as pool:
        return [data for data in pool.map(write, (b"0", b"1", b"2", b"3")) if data is not None]


def test_a_reader_never_sees_half_a_write(store: Store) -> None:
    bodies = [bytes([i]) * 300_000 for i in range(8)]
    store.write("x", bodies[0])
    with ThreadPoolExecutor(3) as pool:
        done = pool.map(lambda body: store.write("x", body), bodies)
        seen = {store.read("x") for _ in range(8)}
        list(done)
    assert seen <= set(bodies)


def test_files_go_up_and_down(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 40_000)  # 10 MB: more than one part
    version = store.upload("big/file", str(source))
    assert store.stat("big/file") == ObjectInfo("big/file", 10_240_000, version)
    target.write_text("older")
    store.download("big/file", str(target))
    assert target.read_bytes() == source.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["source", "target"]


def test_a_file_of_this_machine_that_cannot_be_used_is_named(store: Store, tmp_path: Path) -> None:
    store.write("key", b"x")
    with pytest.raises(StorageError, match="absent-file"):
        store.upload("key", str(tmp_path / "absent-file"))
    with pytest.raises(StorageError, match="absent-folder"):
        store.download("key", str(tmp_path / "absent-folder" / "file"))
    assert store.read("key") == b"x"


def test_arrow_reaches_the_same_objects(store: Store) -> None:
    filesystem, root = store.arrow()
    for key in TRICKY:
        store.write(key, key.encode())
        with filesystem.open_input_stream(f"{root}/{key}") as file:
            assert file.read() == key.encode()
        assert filesystem.get_file_info(f"{root}/{key}").size == len(key.encode())
    store.write("empty", b"")
    with pickle.loads(pickle.dumps(filesystem)).open_input_file(f"{root}/empty") as file:
        assert (file.size(), file.read()) == (0, b"")


def test_arrow_reads_any_part_of_an_object(store: Store) -> None:
    content = bytes(range(256)) * 8
    store.write("a/b", content)
    filesystem, root = store.arrow()
    with filesystem.open_input_file(f"{root}/a/b") as file:
        assert (file.size(), file.read(3), file.read_at(5, 1000)) == (2048, content[:3], content[1000:1005])
        assert (file.seek(2000), file.read(), file.read(1)) == (2000, content[2000:], b"")
    with filesystem.open_input_stream(f"{root}/a/b", buffer_size=100) as stream:
        assert [stream.read(n) for n in (7, 300, 1, 9000)] == [
            content[:7],
            content[7:307],
            content[307:308],
            content[308:],
        ]


def test_a_table_is_read_by_columns(store: Store) -> None:
    table = pa.table({"key": [f"k{i}" for i in range(5000)], "size": range(5000)})
    pq.write_table(table, buffer := io.BytesIO(), row_group_size=500)
    store.write("tables/one.parquet", buffer.getvalue())
    filesystem, root = store.arrow()
    found = pq.read_table(f"{root}/tables/one.parquet", columns=["size"], filesystem=filesystem)
    assert found.equals(table.select(["size"]))
    with pytest.raises(ObjectMissing), arrow_errors("uri"):
        pq.read_table(f"{root}/tables/none.parquet", filesystem=filesystem)


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.write("key", b"bytes")
    assert store.read("key") == b"bytes"
    copy = pickle.loads(pickle.dumps(store))
    assert copy.uri == store.uri
    assert copy.read("key") == b"bytes"


@pytest.mark.parametrize("uri", ["ftp://host/", "/folder", "s3:/b", "file://relative/folder", "s3:///key", "gs://"])
def test_what_is_no_storage_uri_is_refused(uri: str) -> None:
    with pytest.raises(JobError, match="://"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["s3://b/dir//", "gs://b/dir/", "s3://b/", "gs://b/50% a+b#?/", "file:///a%20b/"])
def test_a_uri_is_taken_literally(uri: str) -> None:
    assert open_store(uri).uri == uri
    assert open_store(uri.removesuffix("/")).uri in (uri, uri.removesuffix("/"))


def test_an_objects_uri_is_split_at_the_last_slash() -> None:
    assert split_uri("s3://b/dir//name") == ("s3://b/dir//", "name")
    assert split_uri("file:///name") == ("file:///", "name")
    for uri in ("s3://b", "s3://b/dir/", "name"):
        with pytest.raises(JobError, match="names no object"):
            split_uri(uri)


def test_parts_of_an_upload_that_nobody_finished_are_forgotten(s3_bucket: Callable[[], str]) -> None:
    client, bucket = boto3.client("s3"), s3_bucket()
    for key in ("jobs/runs/1/weights", "jobs/runs/2/weights"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half")

    def unfinished() -> list[str]:
        return [found["Key"] for found in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]

    store = open_store(f"s3://{bucket}/jobs/")
    store.forget_unfinished("runs/1/", 1e9)  # moto says that each was begun in 2010
    assert len(unfinished()) == 2
    store.forget_unfinished("runs/1/", 0)
    assert unfinished() == ["jobs/runs/2/weights"]
    store.forget_unfinished("runs/3/", 0)
