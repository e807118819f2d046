"""What only a folder of this machine can do: links, modes, and names that lead out of it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.errors import AccessDenied, StorageError
from job.storage import Store, open_store
from job.storage.filesystem import HALF, LOCK


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(f"file://{root}/")


@pytest.mark.parametrize("key", ["../secret", "/etc/passwd", "a/../../secret", "a//b", "a/", "./a", "nul\0", "", "."])
def test_a_hostile_key_stays_inside_the_folder(key: str, store: Store) -> None:
    for act in (store.read, store.stat, store.delete, lambda k: store.write(k, b""), lambda k: store.upload(k, "/x")):
        with pytest.raises(StorageError):
            act(key)
    assert list(store.list()) == []
    with pytest.raises(StorageError, match="below it"):
        store.read(key)


def test_a_hostile_prefix_lists_nothing_outside(store: Store) -> None:
    with pytest.raises(StorageError, match="below it"):
        list(store.list("../"))


def test_links_out_of_the_folder_are_not_followed(root: Path, store: Store) -> None:
    (root / "folder").symlink_to(root.parent)
    (root / "file").symlink_to(root.parent / "secret")
    (root / "dangling").symlink_to(root / "nothing")
    assert list(store.list()) == []
    for key in ("folder/secret", "file"):
        with pytest.raises(StorageError, match="below it"):
            store.read(key)
        with pytest.raises(StorageError, match="below it"):
            store.write(key, b"overwritten")
    assert (root.parent / "secret").read_text() == "secret"


def test_links_in_a_circle_do_not_end_in_a_loop(root: Path, store: Store) -> None:
    store.write("a/b", b"x")
    (root / "a" / "up").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    assert [info.key for info in store.list()] == ["a/b"]
    assert list(store.list("a/up/")) == []
    assert store.stat("itself") is None


def test_a_link_to_a_folder_inside_is_followed_and_what_is_not_is_named(root: Path, store: Store) -> None:
    store.write("real/cat/1", b"x")
    (root.parent / "shared").mkdir()
    (root.parent / "shared/2").write_bytes(b"y")
    (root / "cat").symlink_to("real/cat")
    (root / "dog").symlink_to(root.parent / "shared")
    (root / "real/up").symlink_to("..")
    (root / "gone").symlink_to("nothing")
    skipped: list[str] = []
    assert [info.key for info in store.list(skipped=skipped)] == ["cat/1", "real/cat/1"]
    assert skipped == ["dog", "gone", "real/up"]
    assert [info.key for info in store.list("cat/")] == ["cat/1"]
    assert list(store.list("dog/")) == []
    skipped.clear()
    follows = open_store(store.uri, follow_links=True)
    assert [info.key for info in follows.list(skipped=skipped)] == ["cat/1", "dog/2", "real/cat/1"]
    assert (skipped, follows.read("dog/2")) == (["gone", "real/up"], b"y")


def test_a_link_to_a_file_inside_is_an_object(root: Path, store: Store) -> None:
    store.write("a/b", b"x")
    (root / "link").symlink_to(root / "a" / "b")
    assert [info.key for info in store.list()] == ["a/b", "link"]
    assert store.read("link") == b"x"


def test_a_root_that_is_a_link_is_followed(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    store = open_store(f"file://{root.parent}/alias")
    store.write("a/b", b"x")
    assert [info.key for info in store.list("a/")] == ["a/b"]


def test_only_whole_files_are_listed(root: Path, store: Store) -> None:
    version = store.write_if_unchanged("a", b"1", None)
    store.write_if_unchanged("a", b"2", version)  # leaves its lock file
    (root / ".thaw-half-0").write_text("of a process that was killed")
    os.mkfifo(root / "pipe")
    assert [info.key for info in store.list()] == ["a"]


def test_nothing_is_left_behind_by_a_write_that_fails(root: Path, store: Store) -> None:
    (root / "taken").mkdir()
    (root / "taken" / "file").touch()
    with pytest.raises(StorageError, match="could not write"):
        store.write("taken", b"")
    with pytest.raises(StorageError, match="could not write"):
        store.write("taken/file/below", b"")
    assert sorted(p.name for p in root.rglob("*")) == ["file", "taken"]


def test_a_name_that_is_too_long_is_a_storage_error(store: Store) -> None:
    with pytest.raises(StorageError, match="name too long"):
        store.write("x" * 300, b"")


def test_a_file_name_that_is_not_utf8_is_reported_not_dropped(root: Path, store: Store) -> None:
    with open(os.fsencode(root) + b"/\xff.png", "wb"):
        pass
    with pytest.raises(StorageError, match="not UTF-8"):
        list(store.list())


def test_written_files_have_the_mode_that_the_user_chose(root: Path, store: Store) -> None:
    mask = os.umask(0o027)
    try:
        store.write("a", b"x")
    finally:
        os.umask(mask)
    assert (root / "a").stat().st_mode & 0o777 == 0o640


def test_no_permission_names_the_file(root: Path, store: Store) -> None:
    store.write("a", b"x")
    (root / "a").chmod(0)
    with _nobody(), pytest.raises(AccessDenied, match=r"not allowed to read it.*owner and the mode"):
        store.read("a")


@contextmanager
def _nobody() -> Iterator[None]:
    """Without root's rights: root may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_a_killed_writer_left_is_forgotten_once_it_is_old(root: Path) -> None:
    store = open_store(f"file://{root}/")
    for key in ("runs/1/a", "runs/2/a", "features/x/a"):
        store.write(key, b"whole")
        (root / key).with_name(f"{HALF}{key[-3]}").write_bytes(b"half")
    old = root / f"runs/1/{HALF}1"
    os.utime(old, (time.time() - 100,) * 2)
    store.forget_unfinished("runs/1/", 1000)
    assert old.exists()
    store.forget_unfinished("runs/1/", 50)
    assert not old.exists()
    store.forget_unfinished("runs/2/", 0)
    assert [path.name for path in root.rglob(f"{HALF}*")] == [f"{HALF}x"]
    assert len(list(store.list())) == 3
    store.forget_unfinished("absent/", 0)


def test_a_lock_that_somebody_keeps_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped as it wrote."""
    monkeypatch.setattr("job.storage.filesystem.LOCKED", 0.1)
    store = open_store(f"file://{tmp_path}/")
    version = store.write_if_unchanged("a.json", b"1", None)
    with open(tmp_path / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match=r"another process has had this lock for 0\.1 s"):
            store.write_if_unchanged("a.json", b"2", version)
    assert store.read("a.json") == b"1"
    store.write_if_unchanged("a.json", b"2", version)
