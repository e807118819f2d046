"""One contract for s3://, gs:// and file://, against real servers."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from job.errors import AccessDenied, JobError, ObjectMissing, StorageError, WriteConflict
from job.storage import open_store, split_uri

TRICKY = ["a-b", "a.b", "a/b", "a/c d+e%20.png", "a0", "é/ü#?.png", "z"]


def test_bytes_come_back_as_they_were_written(store_uri: str) -> None:
    store = open_store(store_uri)
    version = store.write("a/b", b"one")
    assert store.read("a/b") == b"one"
    info = store.stat("a/b")
    assert (info.key, info.size, info.version) == ("a/b", 3, version)
    assert store.write("a/b", b"three") != version
    assert store.read("a/b") == b"three"


def test_a_missing_object_is_named(store_uri: str) -> None:
    store = open_store(store_uri)
    assert store.stat("nothing") is None
    with pytest.raises(ObjectMissing, match="nothing"):
        store.read("nothing")
    store.delete("nothing")


def test_listing_is_in_the_order_of_utf8_bytes_in_every_store(store_uri: str) -> None:
    store = open_store(store_uri)
    for key in reversed(TRICKY):
        store.write(key, key.encode())
    assert [info.key for info in store.list()] == sorted(TRICKY, key=str.encode)
    assert [info.key for info in store.list("a/")] == ["a/b", "a/c d+e%20.png"]
    assert [info.key for info in store.list("a")] == ["a-b", "a.b", "a/b", "a/c d+e%20.png", "a0"]
    assert all(store.read(info.key) == info.key.encode() for info in store.list())


def test_listing_goes_over_many_pages(s3_bucket) -> None:
    store = open_store(f"s3://{s3_bucket()}/")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.write(f"{i:05d}", b"x"), range(2500)))
    assert [info.key for info in store.list()] == [f"{i:05d}" for i in range(2500)]


def test_a_conditional_write_is_refused_when_someone_else_wrote(store_uri: str) -> None:
    store = open_store(store_uri)
    first = store.write_if_unchanged("current.json", b"1", None)
    with pytest.raises(WriteConflict, match=r"current\.json"):
        store.write_if_unchanged("current.json", b"other", None)
    store.write_if_unchanged("current.json", b"22", first)
    with pytest.raises(WriteConflict):
        store.write_if_unchanged("current.json", b"other", first)
    assert store.read("current.json") == b"22"


def test_of_racing_writers_exactly_one_creates_the_object(store_uri: str) -> None:
    store = open_store(store_uri)

    def write(i: int) -> bool:
        try:
            store.write_if_unchanged("taken", str(i).encode(), None)
        except WriteConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 1


def test_files_go_up_and_down(store_uri: str, tmp_path: Path) -> None:
    store = open_store(store_uri)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 1000)
    store.upload("big/file", str(source))
    store.download("big/file", str(target))
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(ObjectMissing):
        store.download("no/file", str(tmp_path / "never"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["source", "target"]


def test_arrow_reaches_the_same_objects(store_uri: str) -> None:
    store = open_store(store_uri)
    store.write("a/b", b"bytes")
    filesystem, root = store.arrow()
    with filesystem.open_input_stream(f"{root}/a/b") as file:
        assert file.read() == b"bytes"
    with filesystem.open_output_stream(f"{root}/a/c") as file:
        file.write(b"more")
    assert store.read("a/c") == b"more"


def test_a_store_travels_to_another_process(store_uri: str) -> None:
    store = open_store(store_uri)
    store.write("key", b"bytes")
    assert pickle.loads(pickle.dumps(store)).read("key") == b"bytes"


@pytest.mark.parametrize("scheme", ["file", "s3", "gs"])
def test_a_missing_bucket_or_folder_is_named(scheme: str, s3_server: str, gcs_server: str, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/absent/" if scheme == "file" else f"{scheme}://absent-bucket/prefix/"
    with pytest.raises(ObjectMissing, match="absent"):
        list(open_store(uri).list())


@pytest.mark.parametrize("key", ["../outside", "/etc/passwd", "a/../../b", "a//b", "nul\0", ""])
def test_a_hostile_key_stays_inside_the_folder(key: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    store = open_store(f"file://{tmp_path}/root/")
    with pytest.raises(StorageError, match="below it"):
        store.read(key)
    with pytest.raises(StorageError, match="below it"):
        store.write(key, b"")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert list(open_store(f"file://{tmp_path}/root/").list()) == []


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_no_permission_says_what_was_not_allowed(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _stub(403, b"<Error><Code>AccessDenied</Code></Error>") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        with pytest.raises(AccessDenied, match=r"not allowed to read it.*credentials"):
            open_store(f"{scheme}://bucket/").read("key")


def test_a_body_that_breaks_off_is_an_error_not_a_short_object(monkeypatch: pytest.MonkeyPatch) -> None:
    with _stub(200, b"half", length=8) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError, match="s3://bucket/key"):
            open_store("s3://bucket/").read("key")


def test_a_server_that_is_not_there_is_an_error_after_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="after retries"):
        open_store("s3://bucket/").read("key")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(JobError, match="s3://, gs:// or file://"):
        open_store("ftp://host/")


def test_an_objects_uri_is_split_at_the_last_slash() -> None:
    assert split_uri("s3://b/dir//name") == ("s3://b/dir//", "name")


class _stub:
    """A server that gives one answer to everything: what the real ones do can't be had from them on demand."""

    def __init__(self, status: int, body: bytes, length: int | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(length or len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
