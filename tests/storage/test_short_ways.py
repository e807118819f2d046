"""The short ways of asking for an object: what they answer is what the libraries answer, or nothing."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import google_crc32c
import pytest

from job.config import Storage
from job.storage import Store, open_store
from job.storage.s3 import S3Store

CONTENT = bytes(range(256)) * 4
KEYS = ["plain.png", "a b+c%2B&=?.png", "größe/寸法.jpg", "a//b", "a/./b", "dots/../up", "~tilde'(!)*"]
CHECKSUMS = {
    "CRC32": base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode(),
    "CRC32C": base64.b64encode(google_crc32c.value(CONTENT).to_bytes(4, "big")).decode(),
    "SHA1": base64.b64encode(hashlib.sha1(CONTENT).digest()).decode(),
    "SHA256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode(),
}


class Asked:
    """Counts what the libraries themselves are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        get, download = S3Store._get, "google.cloud.storage.Blob.download_as_bytes"
        from google.cloud.storage import Blob

        whole = Blob.download_as_bytes

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def ask(*args: Any, **options: Any) -> Any:
                self.count += 1
                return original(*args, **options)

            return ask

        monkeypatch.setattr(S3Store, "_get", counted(get))
        monkeypatch.setattr(download, counted(whole))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Store:
    """A store that has read an object before."""
    name = request.getfixturevalue("s3_bucket" if request.param == "s3" else "gcs_bucket")()
    store = open_store(f"{request.param}://{name}/a folder/")
    store.write("first", b"x")
    assert store.read("first") == b"x"
    return store


@pytest.mark.parametrize("key", KEYS)
def test_whatever_its_key_an_object_is_read_in_the_short_way(key: str, bucket: Store, asked: Asked) -> None:
    version = bucket.write(key, CONTENT)
    bucket.write(key.upper() + "2", b"another")
    assert bucket.read(key) == bucket.read(key, version) == CONTENT
    assert bucket.read_range(key, 10, 20) == CONTENT[10:30]  # type: ignore[attr-defined]
    assert bucket.read_first(key, 5, version) == CONTENT[:5]
    assert asked.count == 0


def test_many_threads_read_what_they_ask_for(bucket: Store, asked: Asked) -> None:
    """From the first request on, when nothing is known yet."""
    contents = {f"{number % 3}/{number}": f"{number}".encode() * 50 for number in range(60)}
    for key, content in contents.items():
        bucket.write(key, content)
    new = open_store(bucket.uri)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(new.read, contents)) == list(contents.values())
    assert asked.count < 30


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_a_checksum_of_s3_is_checked(
    algorithm: str, s3_bucket: Callable[[], str], asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the ETag is none."""
    store: Any = open_store(f"s3://{s3_bucket()}/")
    store.write("first", b"x")
    store.read("first")
    headers = {f"x-amz-checksum-{algorithm.lower()}": CHECKSUMS[algorithm]}
    asked.count = 0
    store._short._check(CONTENT, headers)
    with pytest.raises(Exception, match="of what came is not"):
        store._short._check(CONTENT[1:], headers)
    store._short._check(CONTENT[1:], {name: f"{value}-3" for name, value in headers.items()})
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    careless: Any = open_store(store.uri)
    careless.read("first")
    careless._short._check(CONTENT[1:], headers)


def test_a_store_for_which_it_never_does_is_asked_in_the_long_way_alone(
    bucket: Any, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    bucket._shortcut.refused = 0
    name = "job.storage.gcs.ask_shortly" if bucket.uri.startswith("gs") else "job.storage.s3.ShortGet.read"
    monkeypatch.setattr(name, lambda *args: tried.append(args))
    for _ in range(40):
        assert bucket.read("first") == b"x"
    assert (len(tried), asked.count) == (32, 40)


def test_who_pays_says_so_in_both_ways(s3_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = open_store(f"s3://{s3_bucket()}/", Storage(requester_pays=True))
    store.write("first", b"x")
    store.read("first")
    assert store._short._way._sent.headers["x-amz-request-payer"] == "requester"


def test_credentials_that_change_are_those_of_the_next_request(
    s3_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = open_store(f"s3://{s3_bucket()}/")
    store.write("key", b"x")
    store.read("key")
    sent: list[str] = []
    send = store._client._endpoint.http_session.send
    monkeypatch.setattr(
        store._client._endpoint.http_session,
        "send",
        lambda request: sent.append(request.headers["Authorization"]) or send(request),
    )
    store.read("key")
    credentials = store._client._request_signer._credentials
    credentials.access_key = "another"
    assert store.read("key") == b"x"
    assert ["another/" in str(one) for one in sent] == [False, True]
