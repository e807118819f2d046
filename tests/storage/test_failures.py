"""What the network and the servers do wrong, and what a user is told. Stubs: real servers don't fail on demand."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from job.config import Storage
from job.errors import AccessDenied, ObjectMissing, StorageError
from job.storage import Store, open_store

Answer = tuple[int, bytes, int]
"""Status, body, Content-Length."""
DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
VERBS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("key"),
    "write": lambda store: store.write("key", b"x"),
    "list": lambda store: list(store.list()),
    "look at": lambda store: store.stat("key"),
    "delete": lambda store: store.delete("key"),
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.storage.gcs.PATIENCE", 2.0)
    monkeypatch.setattr("job.storage.gcs.PATIENCE_UNREACHABLE", 1.0)


@pytest.mark.parametrize("scheme", ["file", "s3", "gs"])
def test_a_missing_bucket_or_folder_is_named(scheme: str, s3_server: str, gcs_server: str, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/absent/" if scheme == "file" else f"{scheme}://absent-bucket/prefix/"
    store = open_store(uri)
    for read in (lambda: list(store.list()), lambda: list(store.list("a/b")), lambda: store.read("key")):
        with pytest.raises(ObjectMissing, match=rf"{uri}.*check"):
            read()
    assert store.stat("key") is None


@pytest.mark.parametrize("action", VERBS)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_no_permission_says_what_was_not_allowed(scheme: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = f"{scheme}://bucket/.*not allowed to {action} it.*credentials"
    with stub(monkeypatch, (403, DENIED, len(DENIED))), pytest.raises(AccessDenied, match=told):
        VERBS[action](open_store(f"{scheme}://bucket/"))


def test_a_store_that_keeps_other_bytes_than_were_written_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that takes the frame around a checksum for content."""
    etag = hashlib.md5(b"1\r\nx\r\n0\r\n", usedforsecurity=False).hexdigest()
    told = "key: the store has kept other bytes than those that were written: .*set AWS_REQUEST_CHECKSUM_CALCULATION"
    with stub(monkeypatch, (200, b"", 0), ETag=f'"{etag}"'), pytest.raises(StorageError, match=told):
        open_store("s3://bucket/").write("key", b"x")


def test_a_bucket_of_gcs_whose_readers_pay_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "Bucket is a requester pays bucket but no user project provided."
    body = json.dumps({"error": {"code": 400, "message": told}}).encode()
    with stub(monkeypatch, (400, body, len(body))) as asked:
        for access in (Storage(), Storage(billing_project="mine")):
            with pytest.raises(AccessDenied, match=r"set storage\.billing_project"):
                open_store("gs://bucket/", access).read("key")
    assert ["userProject=mine" in one for one in asked] == [False, False, True, True], (
        "by the short way, and the library"
    )


def test_an_answer_that_is_no_listing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"<html xmlns='http://www.w3.org/1999/xhtml'><body>Log in</body></html>"
    with stub(monkeypatch, (200, body, len(body))), pytest.raises(StorageError, match=r"no S3.*AWS_ENDPOINT_URL"):
        list(open_store("s3://bucket/").list())


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_upload_without_permission_is_denied(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with stub(monkeypatch, (403, DENIED, len(DENIED))), pytest.raises(AccessDenied, match="write"):
        open_store(f"{scheme}://bucket/").upload("key", str(tmp_path / "file"))


def test_missing_credentials_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AccessDenied, match="no AWS credentials to read it: set AWS_PROFILE"):
        open_store("s3://bucket/").read("key")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/absent.json")
    with pytest.raises(AccessDenied, match=r"no credentials to read it: check.*GOOGLE_APPLICATION_CREDENTIALS"):
        open_store("gs://bucket/").read("key")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_body_that_breaks_off_is_read_again(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with stub(monkeypatch, (200, b"half", 8), (200, b"half", 8), (200, b"complete", 8)) as asked:
        assert open_store(f"{scheme}://bucket/").read("key") == b"complete"
    assert len(asked) == 3


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_busy_server_is_asked_again(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with stub(monkeypatch, (503, b"", 0), (200, b"here", 4)) as asked:
        assert open_store(f"{scheme}://bucket/").read("key") == b"here"
    assert len(asked) == 2


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("action", ["read", "write", "list"])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_server_that_is_not_there_is_an_error_after_retries(
    scheme: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.storage.s3_client.CONFIG.retries", {"mode": "legacy", "total_max_attempts": 2})
    point_at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=f"{scheme}://bucket/.*could not {action} it, after retries") as caught:
        VERBS[action](open_store(f"{scheme}://bucket/"))
    assert type(caught.value) is StorageError
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_no_url_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(StorageError, match="nonsense"):
        open_store("s3://bucket/").read("key")


@contextmanager
def stub(monkeypatch: pytest.MonkeyPatch, *answers: Answer, **headers: str) -> Iterator[list[str]]:
    """A server that gives these answers in turn, and the last one from then on; yields the requests so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status, body, length = answers[min(len(asked), len(answers) - 1)]
            if self.path.startswith("/storage/v1/b/bucket?"):  # by Google's client, in a thread of its own
                status, body, length = 404, b"", 0
            else:
                asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        def log_message(self, *_: object, **__: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
