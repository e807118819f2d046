"""The state of a run against real servers: only one attempt, and only one group of it, can change it."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from job.errors import StorageError, Superseded, WriteConflict
from job.run.state import (
    CheckpointEntry,
    FencingToken,
    GuardedStore,
    Holder,
    RunState,
    create_state,
    first_state,
    read_state,
)
from job.storage import Store, open_store
from job.storage.run_keys import RunKeys

HOLDER = Holder("here", 1, "today")


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri)


def entry(name: str) -> CheckpointEntry:
    return CheckpointEntry(name, "", 0, "head", 1, 0, finished=False)


def begun(store: Store) -> RunState:
    create_state(store, "run", first_state(HOLDER))
    return RunState(store, "run", FencingToken(1))


def taken_over(store: Store) -> None:
    RunState(store, "run", FencingToken(1)).change(
        lambda state: replace(state, attempt=2, holder=replace(HOLDER, pid=2))
    )


def test_a_run_has_one_state(store: Store) -> None:
    assert read_state(store, "run") is None
    begun(store)
    with pytest.raises(WriteConflict):
        create_state(store, "run", first_state(HOLDER))


def test_changes_from_many_sides_are_all_kept(store: Store) -> None:
    first = begun(store)
    others = [RunState(store, "run", FencingToken(1)) for _ in range(3)]

    def add(number: int) -> None:
        mine = [first, *others][number % 4]
        mine.change(lambda state: replace(state, checkpoints=(*state.checkpoints, entry(str(number)))))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(24)))
    assert sorted(int(kept.name) for kept in first.read().checkpoints) == list(range(24))


def test_a_superseded_attempt_changes_nothing(store: Store) -> None:
    old = begun(store)
    old.change(lambda state: replace(state, renewals=7))
    taken_over(store)
    before = store.read(RunKeys("run").state)
    with pytest.raises(Superseded, match=r"attempt 2 \(process 2 on here, since today\) has taken this run over"):
        old.change(lambda state: replace(state, checkpoints=(entry("mine"),)))
    with pytest.raises(Superseded):
        old.read()
    assert store.read(RunKeys("run").state) == before


def test_a_new_group_supersedes_the_one_before_it(store: Store) -> None:
    attempt = begun(store)
    first = attempt.begin_group()
    second = attempt.begin_group()
    with pytest.raises(Superseded, match="replaced by others"):
        first.change(lambda state: state)
    second.change(lambda state: replace(state, checkpoints=(entry("second"),)))
    assert attempt.read().checkpoints == (entry("second"),)


def test_a_guarded_store_writes_nothing_for_a_superseded_attempt(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("job.run.state.FRESH", 0.0)
    guarded = pickle.loads(pickle.dumps(GuardedStore(store, begun(store))))
    version = guarded.write("a", b"mine")
    taken_over(store)
    file = tmp_path / "file"
    file.write_bytes(b"late")
    for write in (
        lambda: guarded.write("a", b"late"),
        lambda: guarded.write_if_unchanged("a", b"late", version),
        lambda: guarded.upload("a", str(file)),
        lambda: guarded.delete("a"),
    ):
        with pytest.raises(Superseded):
            write()
    assert guarded.read("a") == b"mine"
    assert [info.key for info in guarded.list("a")] == ["a"]


class LosesAnswers:
    """A store whose conditional writes take place, and are answered as if they had not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        self._store.write_if_unchanged(key, data, version)
        self.lost += 1
        raise WriteConflict("the answer was lost")


def test_a_write_whose_answer_was_lost_is_not_made_twice(store: Store) -> None:
    begun(store)
    losing = LosesAnswers(store)
    state = RunState(losing, "run", FencingToken(1))  # type: ignore[arg-type]
    state.change(lambda now: replace(now, renewals=now.renewals + 1))
    assert (state.read().renewals, losing.lost) == (1, 1)


def test_a_state_of_another_version_or_none_at_all_is_refused_by_name(store: Store) -> None:
    state = begun(store)
    store.write(RunKeys("run").state, json.dumps({"format": 99}).encode())
    with pytest.raises(StorageError, match=r"runs/run/state\.json was written by another version"):
        state.read()
    store.write(RunKeys("run").state, b"{")
    with pytest.raises(StorageError, match=r"runs/run/state\.json is not what it should be \(Invalid JSON"):
        state.read()
    store.write(RunKeys("run").state, json.dumps({"format": 1, "attempt": "many"}).encode())
    with pytest.raises(StorageError, match=r"runs/run/state\.json is not what it should be \(attempt: Input should be"):
        state.read()
    store.delete(RunKeys("run").state)
    with pytest.raises(StorageError, match=r"runs/run/state\.json is gone"):
        state.read()
