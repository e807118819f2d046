"""A listing that is divided is the listing that is not; killed, it goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from job.config import Data
from job.data.caution import Caution
from job.data.listing import kept_listing, ranges
from job.data.listing.kept_listing import KeptListing
from job.data.listing.ranges import list_source
from job.data.snapshot import take_snapshot
from job.errors import AccessDenied, StorageError
from job.storage import ObjectInfo, Store, gcs, objects, open_store, s3
from job.storage.documents import read_document, write_document
from job.storage.objects import Objects, in_pages, one_by_one

KEYS = [
    *(f"train/{label}/{number:02d}.png" for label in ("cat", "cat ", "dog", "größe") for number in range(9)),
    *(f"val/{number}.png" for number in range(5)),
    *("cat", "cat.png", "train", "train.png", "train0/1.png", "val/deep/er/1.png", "~/1.png", "10.png"),
]


BUCKETS: dict[str, str] = {}
"""Filled once for each kind of store."""


@pytest.fixture(params=["s3", "gs"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A bucket that lists three objects at a time, and a listing that is divided after its first page."""
    make = request.getfixturevalue("s3_bucket" if request.param == "s3" else "gcs_bucket")
    if request.param not in BUCKETS:
        BUCKETS[request.param] = make()
        for key in KEYS:
            open_store(f"{request.param}://{BUCKETS[request.param]}/all/").write(key, b"x")
    source = open_store(f"{request.param}://{BUCKETS[request.param]}/all/")
    for module, name, value in ((s3, "PAGE", 3), (gcs, "PAGE", 3), (ranges, "HEAD", 1), (ranges, "PART", 2)):
        monkeypatch.setattr(module, name, value)
    return source


def listed(source: Store, **options: Any) -> list[ObjectInfo]:
    return list(one_by_one(list_source(source, **options)))


class Counting:
    """A store that counts the pages it is asked for, and in how many threads."""

    def __init__(self, store: Store, broken: str | None = None) -> None:
        self._store, self._broken = store, broken
        self.uri, self.access, self.folders = store.uri, store.access, store.folders
        self.asked, self.threads = 0, set[int]()

    def pages(self, prefix: str = "", **where: Any) -> Iterator[Objects]:
        for page in self._store.pages(prefix, **where):
            self.asked += 1
            self.threads.add(threading.get_ident())
            if self._broken in page.keys:
                raise AccessDenied("not this one")
            yield page


@pytest.mark.parametrize("most", [2, 3, 32])
def test_a_divided_listing_is_in_the_order_of_its_keys(
    source: Store, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "RANGES", most)
    counting: Any = Counting(source)
    assert listed(counting) == list(source.list())
    assert len(counting.threads) > 1


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_it_is_divided_at_folders_deep_enough(source: Store, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "AT_ONCE", at_once)
    folders = source.folders()
    assert folders == ["train/", "train0/", "val/", "~/"]
    assert source.folders(after="train/dog/") == ["train0/", "val/", "~/"] or source.uri.startswith("gs")
    bounds = ranges._bounds(source, folders, "cat")
    if at_once < 3:
        assert bounds == folders
    else:
        below = [f"train/{label}/" for label in ("cat", "cat ", "dog", "größe")]
        assert bounds == sorted([*folders, *below, "val/deep/", "val/deep/er/"])
    assert ranges._bounds(source, folders, "train/")[0] > "train/"


def test_the_same_source_has_the_same_snapshot_however_it_is_listed(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(source=source.uri, split={"train": 0.4, "validation": 0.3, "test": 0.3}, include=["train/*"])
    data = data.model_copy(update={"class_folder": 2})
    divided = take_snapshot(data, source, store)
    monkeypatch.setattr(ranges, "HEAD", 1000)
    assert take_snapshot(data, source, store) == divided
    assert divided.examples == 36


def test_a_folder_of_this_machine_is_listed_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "HEAD", 1)
    monkeypatch.setattr(objects, "PAGE", 1)
    source = open_store(f"file://{tmp_path}/")
    for number in range(3):
        source.write(f"a/{number}", b"")
    counting: Any = Counting(source)
    assert [info.key for info in listed(counting)] == ["a/0", "a/1", "a/2"]
    assert counting.threads == {threading.get_ident()}


def test_an_error_in_one_range_is_that_of_the_listing(source: Store) -> None:
    counting: Any = Counting(source, broken="val/3.png")
    with pytest.raises(AccessDenied, match="not this one"):
        listed(counting)
    until = time.monotonic() + 60
    while [thread for thread in threading.enumerate() if thread.name.startswith("listing")]:
        assert time.monotonic() < until, "the other ranges end at their next page"
        time.sleep(0.02)


@pytest.mark.parametrize("keys", [["b", "a"], ["a", "b", "b"]])
def test_a_listing_in_another_order_is_an_error(keys: list[str], store: Store) -> None:
    counting: Any = Counting(store)
    counting.pages = lambda **_: in_pages(ObjectInfo(key, 1, "1", None) for key in keys)
    with pytest.raises(StorageError, match=f"not listed in the order of its keys: '{keys[-1]}' comes after 'b'"):
        listed(counting)


def documents(store: Store) -> list[str]:
    return [info.key for info in store.list("listings/") if info.key.endswith(".json")]


def parts(listing: KeptListing | None) -> int:
    return sum(len(kept.parts) for kept in listing.ranges) if listing else 0


def wait_for_parts(store: Store) -> None:
    """Waits until a listing has kept a few parts."""
    until = time.monotonic() + 60
    while sum(map(parts, [read_document(store, key, KeptListing) for key in documents(store)])) < 5:
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_threads(before: list[threading.Thread]) -> None:
    """Waits until the threads that were started since have ended, as they would have with a killed process."""
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("listing"):
            thread.join(timeout=5)


def kill_early(source: Store, keep: Store) -> None:
    """Lists some pages in a process that is killed then."""
    code = f"""
import time
from job.data.listing import kept_listing, ranges
from job.data.listing.ranges import list_source
from job.storage import gcs, open_store, s3
s3.PAGE = gcs.PAGE = 3
ranges.HEAD, ranges.PART, kept_listing.AFTER = 1, 2, 0
listing = list_source(open_store({source.uri!r}), keep=open_store({keep.uri!r}))
for _ in range(6):
    next(listing)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for_parts(keep)
        os.kill(process.pid, signal.SIGKILL)


def test_a_killed_listing_goes_on_where_it_was(source: Store, store: Store) -> None:
    whole: Any = Counting(source)
    listed(whole)
    kill_early(source, store)
    assert len(documents(store)) == 1
    rest, notes = Counting(source), list[Caution]()
    assert listed(rest, keep=store, note=notes.append) == list(source.list())
    assert rest.asked < whole.asked - 3
    assert [note.setting for note in notes] == ["data.source"]
    assert "ended early goes on" in notes[0].text
    assert not list(store.list("listings/")), "it has ended, and what was kept is of no more use"


def test_a_listing_that_is_killed_again_keeps_what_both_have_listed(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_listing, "AFTER", 0)
    every, before = list(source.list()), threading.enumerate()
    for _ in range(3):
        listing = list_source(source, keep=store)
        first = list(one_by_one(islice(listing, 4)))
        assert first == every[: len(first)]
        wait_for_parts(store)
        listing.close()
        wait_for_threads(before)
    rest: Any = Counting(source)
    assert listed(rest, keep=store) == every
    assert rest.asked < len(KEYS) / 3
    assert not documents(store), "a file that was written as its listing ended may be left, for a day"


@pytest.mark.parametrize("how", ["deleted", "broken", "cut short", "changed", "zeros"])
def test_a_kept_part_that_is_gone_is_listed_again(source: Store, store: Store, how: str) -> None:
    kill_early(source, store)
    for info in store.list("listings/"):
        if info.key not in documents(store):
            content = store.read(info.key)
            middle = len(content) // 2
            ways = {
                "broken": b"ARROW1",
                "cut short": content[:middle],
                "changed": content[: middle - 8] + content[middle + 8 : middle + 24] + content[middle + 8 :],
                "zeros": content[:16] + bytes(len(content) - 32) + content[-16:],
            }
            store.delete(info.key) if how == "deleted" else store.write(info.key, ways[how])
    assert listed(source, keep=store) == list(source.list())


@pytest.mark.parametrize("change", ["new object", "deleted object", "another RayJob", "too old", "very old", "broken"])
def test_what_is_taken_over_of_a_killed_listing(
    source: Store, store: Store, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_early(source, store)
    kept = [info.key for info in store.list("listings/")]
    notes = list[Caution]()
    if change == "new object":
        source.write("0.png", b"x")
    elif change == "deleted object":
        source.delete("10.png")
    elif change == "another RayJob":
        monkeypatch.setenv("THAW_RAYJOB", "cells-2")
    elif change == "too old":
        monkeypatch.setattr(kept_listing, "LATEST", 0)
    elif change == "very old":
        monkeypatch.setattr(kept_listing, "LATEST", 0)
        monkeypatch.setattr(kept_listing, "STALE", 0)
    else:
        store.write(documents(store)[0], b"{}")
    assert listed(source, keep=store, note=notes.append) == list(source.list())
    assert len(notes) == (change in ("new object", "deleted object"))
    source.write("10.png", b"x")
    source.delete("0.png")
    left = [info.key for info in store.list("listings/")]
    assert (left == kept) == (change in ("another RayJob", "too old", "broken"))


def test_who_may_not_write_keeps_nothing(source: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        def __getattr__(self, name: str) -> Any:
            if name in ("upload", "write", "delete"):
                raise AccessDenied("read only")
            return getattr(store, name)

    monkeypatch.setattr(kept_listing, "AFTER", 0)
    assert listed(source, keep=ReadOnly()) == list(source.list())
    assert not list(store.list("listings/"))


def test_who_may_not_delete_has_no_listing_that_goes_on(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended: what is written since is listed."""

    class Kept:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def delete(self, key: str) -> None:
            raise AccessDenied("no deleting")

    monkeypatch.setattr(kept_listing, "AFTER", 0)
    for _ in range(2):
        notes = list[Caution]()
        assert listed(source, keep=Kept(), note=notes.append) == list(source.list())
        assert not notes
    assert documents(store)


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_a_listing_that_is_still_made_is_left_to_whoever_makes_it(source: Store, store: Store, host: str) -> None:
    kill_early(source, store)
    (key,) = documents(store)
    listing = read_document(store, key, KeptListing)
    assert listing is not None
    alive = replace(listing, pid=os.getppid()) if host == "here" else replace(listing, host="elsewhere")
    write_document(store, key, alive)
    notes = list[Caution]()
    assert listed(source, keep=store, note=notes.append) == list(source.list())
    assert not notes
    assert documents(store) == [key]


def test_a_store_that_is_not_there_yet_keeps_nothing(source: Store, tmp_path: Path) -> None:
    assert listed(source, keep=open_store(f"file://{tmp_path}/absent/")) == list(source.list())


def test_a_short_listing_keeps_nothing(source: Store, store: Store) -> None:
    listing = list_source(source, keep=store)
    list(islice(listing, 10))
    listing.close()
    assert not list(store.list("listings/"))
