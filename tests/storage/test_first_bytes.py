"""The beginning of an object, as headers are read."""

from __future__ import annotations

import pytest

from job.errors import ObjectMissing
from job.storage import open_store


def test_the_first_bytes_of_an_object_and_of_a_shorter_one(store_uri: str) -> None:
    store = open_store(store_uri)
    version = store.write("a key", bytes(range(200)))
    assert store.read_first("a key", 8) == bytes(range(8))
    assert store.read_first("a key", 8, version) == bytes(range(8))
    assert store.read_first("a key", 500) == bytes(range(200))
    store.write("empty", b"")
    assert store.read_first("empty", 8) == b""


def test_another_version_is_missing(store_uri: str) -> None:
    store = open_store(store_uri)
    version = store.write("key", b"first")
    store.write("key", b"other")
    with pytest.raises(ObjectMissing):
        store.read_first("key", 2, version)
    with pytest.raises(ObjectMissing):
        store.read_first("nothing", 2)
