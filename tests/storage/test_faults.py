"""Real servers behind a proxy that injects faults: what passes is never noticed, and what stays is told once."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import urllib3
from botocore import retryhandler
from botocore.exceptions import FlexibleChecksumError
from faults import Proxy, any_request, faulty, object_read
from google.api_core.exceptions import Forbidden, ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import TransportError
from google.cloud import storage

from job.errors import AccessDenied, ObjectMissing, StorageError, WriteConflict
from job.storage import Store, gcs, open_store
from job.storage.s3 import S3Store

RATES = {"internal_error": 0.02, "unavailable": 0.02, "slow_down": 0.01, "truncated": 0.02, "reset": 0.02}
DELAYS = {"late": 0.02, "dribbled": 0.02}
PERMANENT = ("internal_error", "unavailable", "slow_down", "reset", "lost")
VERBS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("key"),
    "write": lambda store: store.write("key", b"x"),
    "list": lambda store: list(store.list()),
    "look at": lambda store: store.stat("key"),
}


def an_object(method: str, target: str) -> bool:
    """Google's client also asks for its bucket, in a thread of its own."""
    return "folder" in target or "/upload/" in target


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; a thousandth of them is waited for."""
    asked: list[float] = []

    def delay(base: Any, growth_factor: float, attempts: int) -> float:
        asked.append(original(base, growth_factor, attempts))
        return asked[-1] / 1000

    original = retryhandler.delay_exponential
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", delay)
    monkeypatch.setattr("job.storage.s3.PAUSE", 0.001)
    monkeypatch.setattr("job.storage.gcs.PAUSE", 0.001)
    monkeypatch.setattr("job.storage.gcs.RETRIES", 8)
    monkeypatch.setattr("job.storage.gcs.LONGEST_PAUSE", 0.01)
    return asked


@pytest.fixture(scope="module")
def s3_root(s3_server: str) -> Store:
    bucket = f"faults-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return open_store(f"s3://{bucket}/")


@pytest.fixture(scope="module")
def gcs_root(gcs_server: str) -> Store:
    bucket = f"faults-{uuid.uuid4().hex[:12]}"
    storage.Client(project="test", credentials=AnonymousCredentials()).create_bucket(bucket)
    return open_store(f"gs://{bucket}/")


@pytest.fixture
def s3_behind(s3_root: Store, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return _behind(s3_root, s3_server, monkeypatch)


@pytest.fixture
def gcs_behind(gcs_root: Store, gcs_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return _behind(gcs_root, gcs_server, monkeypatch)


@pytest.fixture(params=["s3", "gs"])
def behind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue("s3_behind" if request.param == "s3" else "gcs_behind")


def _behind(root: Store, server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Opens a new store with an object `key`; from then on its requests go through the proxy."""

    @contextmanager
    def open_behind(**faults: Any) -> Iterator[tuple[Store, Proxy]]:
        folder = f"{uuid.uuid4().hex}/a folder/"
        root.write(f"{folder}key", bytes(range(256)) * 400)
        with faulty(server, **faults) as proxy, monkeypatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", proxy.url)
            patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            yield open_store(root.uri + folder), proxy

    return open_behind


def test_hundreds_of_requests_through_a_bad_network_end_with_the_right_bytes(
    behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    content = {f"dir {i % 7}/ü+{i}%20": random.Random(i).randbytes(1 + 37 * i) for i in range(200)}

    def exercise(key: str) -> None:
        if key.endswith("5%20"):
            (tmp_path / f"{hash(key)}.up").write_bytes(content[key])
            version = store.upload(key, str(tmp_path / f"{hash(key)}.up"))
            store.download(key, str(tmp_path / f"{hash(key)}.down"))
            assert _sha256((tmp_path / f"{hash(key)}.down").read_bytes()) == _sha256(content[key])
        else:
            version = store.write(key, content[key])
        info = store.stat(key)
        assert info is not None
        assert (info.size, info.version) == (len(content[key]), version)
        assert _sha256(store.read(key, version)) == _sha256(content[key])

    with behind(seed=3, pause=0.3, **RATES, **DELAYS) as (store, proxy), ThreadPoolExecutor(8) as pool:
        list(pool.map(exercise, content))
        for prefix in ("", "dir 3/", "dir 5/ü+1"):
            listed = {info.key: info.size for info in store.list(prefix)}
            expected = {key: len(value) for key, value in content.items() if key.startswith(prefix)}
            assert {key: size for key, size in listed.items() if key != "key"} == expected
        list(pool.map(store.delete, content))
        assert [info.key for info in store.list()] == ["key"]
        for _ in range(1000):
            if all(proxy.counts[kind] for kind in (*RATES, *DELAYS)):
                break
            assert len(store.read("key")) == 102_400
        assert set(proxy.counts) == {*RATES, *DELAYS}
        assert len(proxy.asked) > 800


def test_a_large_file_goes_up_and_down_through_a_bad_network(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "up").write_bytes(random.Random(0).randbytes(17 << 20))  # three parts
    with s3_behind(seed=2, **dict.fromkeys((*RATES, "lost"), 0.04)) as (store, proxy):
        for _ in range(2):
            store.upload("large", str(tmp_path / "up"))
            store.download("large", str(tmp_path / "down"))
            assert _sha256((tmp_path / "down").read_bytes()) == _sha256((tmp_path / "up").read_bytes())
            assert _sha256(store.read("large")) == _sha256((tmp_path / "up").read_bytes())
        assert proxy.counts.total() > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["down", "up"]


def test_an_upload_whose_last_answer_is_lost_is_made_again(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "up").write_bytes(random.Random(0).randbytes(9 << 20))
    with s3_behind(only=lambda method, target: method == "POST" and "uploadId=" in target) as (store, proxy):
        proxy.next.append("lost")
        version = store.upload("large", str(tmp_path / "up"))
        assert proxy.counts == {"lost": 1}
        assert _sha256(store.read("large", version)) == _sha256((tmp_path / "up").read_bytes())


def test_arrow_reads_and_writes_parquet_through_a_bad_network(s3_behind: Callable[..., Any]) -> None:
    table = pa.table({"key": [f"k{i}" for i in range(20_000)], "size": range(20_000)})
    with s3_behind(pause=0.2) as (store, proxy):
        filesystem, root = store.arrow()
        for faults in (["truncated", "reset"], ["internal_error", "dribbled"], ["slow_down", "late"], ["truncated"]):
            proxy.only = any_request
            proxy.next.extend(["", *faults])
            pq.write_table(table, f"{root}/table.parquet", filesystem=filesystem, row_group_size=5000)
            proxy.only = object_read
            proxy.next.clear()
            proxy.next.extend(faults)
            assert pq.read_table(f"{root}/table.parquet", filesystem=filesystem).equals(table)
            assert not proxy.next
        assert {"truncated", "reset", "internal_error", "slow_down", "late", "dribbled"} == set(proxy.counts)


def test_a_conditional_write_whose_answer_is_lost_is_a_conflict(
    behind: Callable[..., Any], pauses: list[float]
) -> None:
    with behind(only=lambda method, _: method in ("PUT", "POST")) as (store, proxy):
        for version, content in ((None, b"first"), ("its version", b"second")):
            proxy.next.append("lost")
            with pytest.raises(WriteConflict, match=r"current\.json"):
                store.write_if_unchanged("current.json", content, version and store.stat("current.json").version)
            assert store.read("current.json") == content
        assert proxy.counts == {"lost": 2}


@pytest.mark.parametrize("fault", PERMANENT)
def test_what_stays_is_an_error_after_a_bounded_number_of_retries(
    behind: Callable[..., Any], fault: str, pauses: list[float]
) -> None:
    with behind(only=an_object, **{fault: 1.0}) as (store, proxy):
        for action, act in VERBS.items():
            proxy.counts.clear()
            pauses.clear()
            told = rf"a folder/.*could not {action} it, after retries.*run it again"
            with pytest.raises(StorageError, match=told) as caught:
                act(store)
            assert type(caught.value) is StorageError
            assert "\n" not in str(caught.value)
            if store.uri.startswith("gs"):
                assert proxy.counts[fault] == 9
                continue
            assert proxy.counts[fault] == 7
            assert [pause < 2**i for i, pause in enumerate(pauses)] == [True] * 6
            assert len({pause / 2**i for i, pause in enumerate(pauses)}) == 6  # at random


@pytest.mark.parametrize("verb", ["read", "download"])
@pytest.mark.parametrize("fault", ["truncated", "flipped"])
def test_a_body_that_is_never_right_is_an_error(
    behind: Callable[..., Any], verb: str, fault: str, tmp_path: Path, pauses: list[float]
) -> None:
    told = "bytes arrive changed.*write it again" if fault == "flipped" else "run it again"
    with behind(only=object_read, **{fault: 1.0}) as (store, proxy):
        with pytest.raises(StorageError, match=rf"a folder/key: could not read it, after retries.*{told}"):
            _get(store, verb, tmp_path)
        assert 6 <= proxy.counts[fault] <= 18
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["read", "download"])
def test_a_body_that_arrives_changed_is_asked_for_again(
    behind: Callable[..., Any], verb: str, tmp_path: Path, pauses: list[float]
) -> None:
    with behind(only=object_read) as (store, proxy):
        proxy.next.extend(["flipped", "truncated", "flipped+truncated"])
        assert _get(store, verb, tmp_path) == bytes(range(256)) * 400
        assert proxy.counts == {"flipped": 2, "truncated": 2}


@pytest.mark.parametrize("verb", ["read", "download"])
def test_an_etag_is_a_checksum_where_the_store_has_no_other(
    s3_behind: Callable[..., Any], verb: str, tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_behind(only=object_read) as (store, proxy):
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        open_store(store.uri).write("plain", b"content" * 100)
        proxy.next.extend(["flipped"] * 2)
        assert _get(store, verb, tmp_path, "plain") == b"content" * 100
        assert proxy.counts == {"flipped": 2}
        proxy.rates = {"flipped": 1.0}
        with pytest.raises(StorageError, match=r"plain: .*arrive changed \(the ETag is [0-9a-f]{32}, the MD5"):
            _get(store, verb, tmp_path, "plain")
        monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        assert _get(open_store(store.uri), verb, tmp_path, "plain") != b"content" * 100


def test_an_etag_that_is_no_md5_is_no_checksum(s3_root: S3Store) -> None:
    boto3.client("s3").put_object(Bucket=s3_root.bucket, Key="kms", Body=b"x", ServerSideEncryption="aws:kms")
    assert s3_root.read("kms") == b"x"
    answer = {"ETag": f'"{"0" * 32}"'}
    with pytest.raises(FlexibleChecksumError, match="the ETag is 0"):
        s3_root._check(answer, hashlib.md5)
    for other in ({"ServerSideEncryption": "aws:kms"}, {"SSECustomerAlgorithm": "AES256"}, {"ETag": f'"{"0" * 32}-2"'}):
        s3_root._check(answer | other, hashlib.md5)
    open_store("s3://name--use1-az4--x-s3/")._check(answer, hashlib.md5)


@pytest.mark.parametrize("fault", ["late", "dribbled"])
def test_an_answer_that_stalls_is_asked_for_again_and_then_an_error(
    behind: Callable[..., Any], fault: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.storage.s3.CONFIG.read_timeout", 0.1)
    monkeypatch.setattr("job.storage.s3.CONFIG.retries", {"mode": "legacy", "total_max_attempts": 3})
    monkeypatch.setattr("job.storage.s3.BODY_ATTEMPTS", 3)
    monkeypatch.setattr("job.storage.gcs.TIMEOUT", (1, 0.1))
    monkeypatch.setattr("job.storage.gcs.PATIENCE_UNREACHABLE", 0.0)  # it is reached
    with behind(only=object_read, pause=3.0) as (store, proxy):
        proxy.next.extend([fault] * 2)
        assert len(store.read("key")) == 102_400
        proxy.rates = {fault: 1.0}
        with pytest.raises(StorageError, match=r"key: could not read it, after retries.*run it again"):
            store.read("key")
        assert proxy.counts[fault] == (5 if store.uri.startswith("s3") else 11)


@pytest.mark.parametrize(
    ("error", "every", "tries"),
    [
        (ServiceUnavailable("busy"), 5, 13),
        (requests.ConnectionError(urllib3.exceptions.ProtocolError("reset")), 5, 13),
        (requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", None)), 5, 7),
        (TransportError(requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", None))), 5, 7),
        (requests.ReadTimeout("stalled"), 31, 3),
        (requests.ConnectionError("a download that goes on where it broke off, each minute"), 60, 31),
        (Forbidden("never"), 5, 1),
    ],
)
def test_the_patience_with_gcs_ends(error: Exception, every: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000, 10_000, every))
    monkeypatch.setattr("job.storage.gcs.time", SimpleNamespace(monotonic=lambda: next(clock)))
    patience = gcs._Patience()
    assert [patience(error) for _ in range(tries)] == [True] * (tries - 1) + [False]


def test_credentials_that_expire_are_told_at_once(s3_behind: Callable[..., Any], pauses: list[float]) -> None:
    with s3_behind(only=an_object) as (store, proxy):
        for action, act in VERBS.items():
            proxy.rates = {}
            act(store)
            proxy.rates = {"expired": 1.0}
            with pytest.raises(AccessDenied, match=rf"a folder/.*not allowed to {action} it.*expired: log in again"):
                act(store)
        assert proxy.counts["expired"] <= 5  # botocore wonders whether a 400 without a reason is for another region
    assert pauses == []


def test_an_object_that_is_deleted_after_it_was_listed_is_missing(behind: Callable[..., Any], tmp_path: Path) -> None:
    with behind(only=an_object) as (store, proxy):
        (info,) = store.list()
        store.delete("key")
        before = len(proxy.asked)
        for read in (lambda: store.read("key"), lambda: store.read("key", info.version)):
            with pytest.raises(ObjectMissing, match="a folder/key does not exist"):
                read()
        with pytest.raises(ObjectMissing, match="a folder/key does not exist"):
            store.download("key", str(tmp_path / "file"))
        assert len(proxy.asked) <= before + 3
    assert list(tmp_path.iterdir()) == []


def test_an_outage_is_outlasted_by_many_threads_of_one_client(
    s3_behind: Callable[..., Any], pauses: list[float]
) -> None:
    asked: Counter[str] = Counter()

    def first_five(_: str, target: str) -> bool:
        asked[target] += 1
        return asked[target] <= 5

    with s3_behind(only=first_five, unavailable=1.0) as (store, proxy), ThreadPoolExecutor(24) as pool:
        assert list(pool.map(store.stat, map(str, range(24)))) == [None] * 24
        assert proxy.counts["unavailable"] == 24 * 5


def test_a_broken_tls_record_in_a_body_is_a_broken_body(
    s3_behind: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    def read(self: object, amt: int | None = None) -> bytes:
        raise urllib3.exceptions.SSLError("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")

    monkeypatch.setattr("botocore.response.StreamingBody.read", read)
    with s3_behind() as (store, proxy):
        with pytest.raises(StorageError, match=r"key: could not read it, after retries \(DECRYPTION"):
            store.read("key")
        assert len(proxy.asked) == 6


def test_a_file_that_is_overwritten_during_its_download_is_downloaded_again(
    s3_behind: Callable[..., Any], tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_bytes(b"1" * (9 << 20))
    (tmp_path / "two").write_bytes(b"2" * (9 << 20))
    with s3_behind() as (store, _):
        store.upload("large", str(tmp_path / "one"))
        head = store._client.head_object

        def head_then_overwrite(**kwargs: str) -> object:
            answer = head(**kwargs)
            if heads.pop(0):
                store._client.upload_file(str(tmp_path / "two"), kwargs["Bucket"], kwargs["Key"])
            return answer

        heads = [False, True, False, False]  # its own, and that of the transfer
        monkeypatch.setattr(store._client, "head_object", head_then_overwrite)
        store.download("large", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == b"2" * (9 << 20)


@pytest.mark.parametrize("verb", ["write", "upload", "write_if_unchanged"])
@pytest.mark.parametrize("cause", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_old_object_and_nothing_else(
    verb: str, cause: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "large").write_bytes(b"new" * 100_000)
    store = open_store(f"file://{tmp_path}/store/")
    version = store.write("key", b"old")
    act = {
        "write": lambda: store.write("key", b"new" * 100_000),
        "upload": lambda: store.upload("key", str(tmp_path / "large")),
        "write_if_unchanged": lambda: store.write_if_unchanged("key", b"new" * 100_000, version),
    }[verb]
    told = f"key: could not write it: {os.strerror(cause)}: free some space"
    with _full_disk(cause, monkeypatch), pytest.raises(StorageError, match=told):
        act()
    assert store.read("key", version) == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["key"]


@contextmanager
def _full_disk(cause: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if cause == errno.EFBIG:  # the kernel's own limit: part of the file is written
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return

    def fsync(_: int) -> None:
        raise OSError(cause, os.strerror(cause))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fsync)
        yield


def test_the_proxy_passes_a_request_on_byte_for_byte() -> None:
    head = b"PUT /bucket/%C3%BC+a%2520b//c?x=%2F&If=1 HTTP/1.1\r\nHost: elsewhere:1\r\nIf-None-Match: *\r\n"
    body = (
        b"Transfer-Encoding: chunked\r\n\r\n3;chunk-signature=0\r\na\r\n\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(2):
                    got = b""
                    while not got.endswith(b"==\r\n\r\n"):
                        got += connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

        answered = pool.submit(echo)
        with faulty(f"http://127.0.0.1:{server.getsockname()[1]}") as proxy:
            with socket.create_connection(proxy.url.removeprefix("http://").split(":")) as client:
                for _ in range(2):  # on one connection
                    client.sendall(head + b"Expect: 100-continue\r\n" + body)
                    got = b""
                    while not got.endswith(b"==\r\n\r\n"):
                        got += client.recv(1 << 16)
                    assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
                    assert got.endswith(b"\r\n\r\n" + head + body)
            answered.result(10)


def _get(store: Store, verb: str, folder: Path, key: str = "key") -> bytes:
    if verb == "read":
        return store.read(key)
    store.download(key, str(folder / "down"))
    content = (folder / "down").read_bytes()
    (folder / "down").unlink()
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
