"""Faults that stay: told once, naming the object, after retries that end; and nothing is lost."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import urllib3
from botocore.exceptions import FlexibleChecksumError
from google.api_core.exceptions import Forbidden, ServiceUnavailable
from google.auth.exceptions import TransportError

from job.errors import AccessDenied, ObjectMissing, StorageError
from job.storage import Store, gcs, open_store
from job.storage.s3 import S3Store
from job.storage.s3_get import check_etag
from support.faults import in_a_folder, object_read

PERMANENT = ("internal_error", "unavailable", "slow_down", "reset", "lost")
VERBS: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read("key"),
    "write": lambda store: store.write("key", b"x"),
    "list": lambda store: list(store.list()),
    "look at": lambda store: store.stat("key"),
}


@pytest.mark.parametrize("fault", PERMANENT)
def test_what_stays_is_an_error_after_a_bounded_number_of_retries(
    behind: Callable[..., Any], fault: str, pauses: list[float]
) -> None:
    with behind(only=in_a_folder, **{fault: 1.0}) as (store, proxy):
        for action, act in VERBS.items():
            proxy.counts.clear()
            pauses.clear()
            told = rf"a folder/.*could not {action} it, after retries.*run it again"
            with pytest.raises(StorageError, match=told) as caught:
                act(store)
            assert type(caught.value) is StorageError
            assert "\n" not in str(caught.value)
            shortly = action == "read" and (store.uri.startswith("gs") or store._short._way.is_known)
            if store.uri.startswith("gs"):
                assert proxy.counts[fault] == 9 + shortly
                continue
            assert proxy.counts[fault] == 7 + shortly
            assert [pause < 2**i for i, pause in enumerate(pauses)] == [True] * 6
            assert len({pause / 2**i for i, pause in enumerate(pauses)}) == 6  # at random


@pytest.mark.parametrize("verb", ["read", "download"])
@pytest.mark.parametrize("fault", ["truncated", "flipped"])
def test_a_body_that_is_never_right_is_an_error(
    behind: Callable[..., Any], get: Callable[..., bytes], verb: str, fault: str, tmp_path: Path, pauses: list[float]
) -> None:
    told = "bytes arrive changed.*write it again" if fault == "flipped" else "run it again"
    with behind(only=object_read, **{fault: 1.0}) as (store, proxy):
        with pytest.raises(StorageError, match=rf"a folder/key: could not read it, after retries.*{told}"):
            get(store, verb)
        assert 6 <= proxy.counts[fault] <= 18
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["read", "download"])
def test_an_etag_is_a_checksum_where_the_store_has_no_other(
    s3_behind: Callable[..., Any],
    get: Callable[..., bytes],
    verb: str,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with s3_behind(only=object_read) as (store, proxy):
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        open_store(store.uri).write("plain", b"content" * 100)
        proxy.next.extend(["flipped"] * 2)
        assert get(store, verb, "plain") == b"content" * 100
        assert proxy.counts == {"flipped": 2}
        proxy.rates = {"flipped": 1.0}
        with pytest.raises(StorageError, match=r"plain: .*arrive changed \(the ETag is [0-9a-f]{32}, the MD5"):
            get(store, verb, "plain")
        monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        assert get(open_store(store.uri), verb, "plain") != b"content" * 100


def test_an_etag_that_is_no_md5_is_no_checksum(s3_root: S3Store) -> None:
    boto3.client("s3").put_object(Bucket=s3_root.bucket, Key="kms", Body=b"x", ServerSideEncryption="aws:kms")
    assert s3_root.read("kms") == b"x"
    answer = {"ETag": f'"{"0" * 32}"'}
    client = s3_root._client
    with pytest.raises(FlexibleChecksumError, match="the ETag is 0"):
        check_etag(client, "name", answer, md5=hashlib.md5)
    for other in ({"ServerSideEncryption": "aws:kms"}, {"SSECustomerAlgorithm": "AES256"}, {"ETag": f'"{"0" * 32}-2"'}):
        check_etag(client, "name", answer | other, md5=hashlib.md5)
    check_etag(client, "name--use1-az4--x-s3", answer, md5=hashlib.md5)


@pytest.mark.parametrize("fault", ["late", "dribbled"])
def test_an_answer_that_stalls_is_asked_for_again_and_then_an_error(
    behind: Callable[..., Any], fault: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.storage.s3_client.CONFIG.read_timeout", 0.1)
    monkeypatch.setattr("job.storage.s3_client.CONFIG.retries", {"mode": "legacy", "total_max_attempts": 3})
    monkeypatch.setattr("job.storage.s3.BODY_ATTEMPTS", 3)
    monkeypatch.setattr("job.storage.gcs.TIMEOUT", (1, 0.1))
    monkeypatch.setattr("job.storage.gcs.PATIENCE_UNREACHABLE", 0.0)  # it is reached
    with behind(only=object_read, pause=3.0) as (store, proxy):
        proxy.next.extend([fault] * 2)
        assert len(store.read("key")) == 102_400
        proxy.rates = {fault: 1.0}
        with pytest.raises(StorageError, match=r"key: could not read it, after retries.*run it again"):
            store.read("key")
        if not store.uri.startswith("s3"):
            assert proxy.counts[fault] == 11 + 1  # the short way comes first
        elif fault == "late":
            assert proxy.counts[fault] == 5 + 1
        else:  # on a busy machine the head of an answer, too, is late: botocore asks again, for each of the three
            assert 5 + 1 <= proxy.counts[fault] <= 2 + 1 + 3 * 3


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
def test_the_patience_with_gcs_ends(error: Exception, every: int, tries: int) -> None:
    clock = iter(range(1000, 10_000, every))
    patience = gcs._Patience(lambda: next(clock))
    assert [patience(error) for _ in range(tries)] == [True] * (tries - 1) + [False]


def test_credentials_that_expire_are_told_at_once(s3_behind: Callable[..., Any], pauses: list[float]) -> None:
    with s3_behind(only=in_a_folder) as (store, proxy):
        for action, act in VERBS.items():
            proxy.rates = {}
            act(store)
            proxy.rates = {"expired": 1.0}
            with pytest.raises(AccessDenied, match=rf"a folder/.*not allowed to {action} it.*expired: log in again"):
                act(store)
        # Botocore wonders whether a 400 without a reason is for another region; and the short way comes first.
        assert proxy.counts["expired"] <= 5 + 1
    assert pauses == []


def test_in_a_folder_that_is_deleted_after_it_was_listed_is_missing(behind: Callable[..., Any], tmp_path: Path) -> None:
    with behind(only=in_a_folder) as (store, proxy):
        (info,) = store.list()
        store.delete("key")
        before = len(proxy.asked)
        for read in (lambda: store.read("key"), lambda: store.read("key", info.version)):
            with pytest.raises(ObjectMissing, match="a folder/key does not exist"):
                read()
        with pytest.raises(ObjectMissing, match="a folder/key does not exist"):
            store.download("key", str(tmp_path / "file"))
        assert len(proxy.asked) <= before + 3 + 2  # the short way comes first
    assert list(tmp_path.iterdir()) == []


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
