"""A store that is only read, and what is written over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.errors import ObjectMissing, WriteConflict
from job.storage import open_store
from job.storage.read_only import OverlayStore


def listed(store: OverlayStore, prefix: str = "") -> dict[str, bytes]:
    return {info.key: store.read(info.key, info.version) for info in store.list(prefix)}


def test_what_is_written_is_read_and_the_store_below_stays_as_it_was(store_uri: str, tmp_path: Path) -> None:
    below = open_store(store_uri)
    for key in ("a/1", "a/2", "b"):
        below.write(key, key.encode())
    before = list(below.list())
    (tmp_path / "above").mkdir()
    store = OverlayStore(below, str(tmp_path / "above"))
    store.write("a/2", b"changed")
    store.write("a/15", b"new")
    store.delete("b")
    (tmp_path / "file").write_bytes(b"up")
    store.upload("c", str(tmp_path / "file"))
    assert listed(store) == {"a/1": b"a/1", "a/15": b"new", "a/2": b"changed", "c": b"up"}
    assert list(listed(store, "a/")) == ["a/1", "a/15", "a/2"]
    assert store.read_first("a/2", 3) == b"cha"
    store.download("a/1", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == b"a/1"
    assert store.stat("b") is None
    with pytest.raises(ObjectMissing):
        store.read("b")
    assert list(below.list()) == before


def test_conditional_writes_go_by_what_is_seen(store_uri: str, tmp_path: Path) -> None:
    below = open_store(store_uri)
    version = below.write("key", b"1")
    (tmp_path / "above").mkdir()
    store = OverlayStore(below, str(tmp_path / "above"))
    with pytest.raises(WriteConflict):
        store.write_if_unchanged("key", b"2", None)
    second = store.write_if_unchanged("key", b"2", version)
    with pytest.raises(WriteConflict):
        store.write_if_unchanged("key", b"3", version)
    store.write_if_unchanged("key", b"3", second)
    assert (store.read("key"), below.read("key")) == (b"3", b"1")


def test_a_store_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    store = OverlayStore(open_store(f"file://{tmp_path}/nowhere/"), str(tmp_path / "above"))
    assert list(store.list("features/")) == []
    assert store.stat("key") is None
    assert not (tmp_path / "nowhere").exists()
