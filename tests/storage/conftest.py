"""Stores behind a proxy that injects faults."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import retryhandler
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from job.storage import Store, open_store
from support.faults import Proxy, faulty


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


@pytest.fixture
def s3_learned_behind(s3_behind: Callable[..., Any]) -> Callable[..., Any]:
    """The store has read an object before: it asks for the others in the short way."""

    @contextmanager
    def open_behind(**faults: Any) -> Iterator[tuple[Store, Proxy]]:
        with s3_behind(**faults) as (store, proxy):
            rates, proxy.rates = proxy.rates, {}
            store.read("key")
            assert store._short._way.is_known
            proxy.rates = rates
            proxy.asked.clear()
            yield store, proxy

    return open_behind


@pytest.fixture(params=["s3_behind", "s3_learned_behind", "gcs_behind"])
def behind(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.getfixturevalue(request.param)


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


@pytest.fixture
def get(tmp_path: Path) -> Callable[..., bytes]:
    """Reads an object by one of two verbs."""

    def get(store: Store, verb: str, key: str = "key") -> bytes:
        if verb == "read":
            return store.read(key)
        store.download(key, str(tmp_path / "down"))
        content = (tmp_path / "down").read_bytes()
        (tmp_path / "down").unlink()
        return content

    return get
