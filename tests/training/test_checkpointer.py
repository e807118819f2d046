"""Checkpoints in the store: uploaded meanwhile, listed when they are whole, skipped where they are broken."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from job.errors import CorruptCheckpoint, StorageError, Superseded
from job.run.state import FencingToken, Holder, RunState, create_state, first_state
from job.storage import Store, file_sha256
from job.training.checkpoint import FORMAT, CallerState, Checkpoint, Progress, Tensors, read_checkpoint
from job.training.checkpointer import Checkpointer, forget_unlisted, latest_checkpoint
from job.training.convergence import EarlyStopping

FOLDER = "runs/run/checkpoints/"


@pytest.fixture
def state(store: Store) -> RunState:
    create_state(store, "run", first_state(Holder("here", 1, "today")))
    return RunState(store, "run", FencingToken(1)).begin_group()


def at(step: int) -> Checkpoint:
    tensors = {"layer/kernel": np.full([3, 2], step, np.float32)}
    progress = Progress("head", 1, False, EarlyStopping(3), step=step, seen=(-(2**62), 0))
    caller = CallerState({"so far": [step]}, {"head": tensors})
    return Checkpoint(progress, tensors, tensors, tensors, caller, losses=np.arange(step, dtype=np.float32))


def bytes_of(tensors: Tensors) -> dict[str, bytes]:
    return {path: value.tobytes() for path, value in tensors.items()}


def told(said: list[str]) -> Any:
    return lambda event: said.append(f"{event.kind}: {event.text}")


def files(store: Store) -> list[str]:
    return [info.key.removeprefix(FOLDER) for info in store.list(FOLDER)]


def latest(store: Store, state: RunState, said: list[str]) -> int | None:
    found = latest_checkpoint(store, state, told(said))
    return found[1].progress.step if found else None


def test_the_latest_come_back_and_the_rest_is_deleted(store: Store, state: RunState) -> None:
    checkpointer = Checkpointer(store, state, keep=2, emit=told([]))
    assert latest(store, state, []) is None
    for step in range(1, 5):
        checkpointer.save(at(step), wait=step == 4)
    found = latest_checkpoint(store, state, told([]))
    assert found is not None
    assert found[1].progress == at(4).progress
    for role in ("weights", "best", "optimizer"):
        assert bytes_of(getattr(found[1], role)) == bytes_of(getattr(at(4), role))
    assert found[1].caller.document == at(4).caller.document
    assert bytes_of(found[1].caller.tensors["head"]) == bytes_of(at(4).caller.tensors["head"])
    assert found[1].losses.tolist() == [0, 1, 2, 3]
    assert files(store) == ["head-00001-0000003-1-1.safetensors", "head-00001-0000004-1-1.safetensors"]


def broken(store: Store, name: str, how: str) -> None:
    content = store.read(FOLDER + name)
    if how == "gone":
        store.delete(FOLDER + name)
    else:
        changed = {"cut short": content[: len(content) // 2], "empty": b"", "tampered": content[:-1] + b"!"}[how]
        store.write(FOLDER + name, changed)


@pytest.mark.parametrize("how", ["gone", "cut short", "empty", "tampered"])
def test_a_broken_checkpoint_is_skipped_by_name(how: str, store: Store, state: RunState) -> None:
    checkpointer = Checkpointer(store, state, keep=2, emit=told([]))
    for step in (1, 2):
        checkpointer.save(at(step), wait=True)
    broken(store, "head-00001-0000002-1-1.safetensors", how)
    said: list[str] = []
    assert latest(store, state, said) == 1
    assert "head-00001-0000002-1-1.safetensors" in said[0]
    assert said[0].endswith("The checkpoint before it is used.")
    checkpointer.save(at(3), wait=True)
    assert [entry.step for entry in state.read().checkpoints] == [1, 3], "it takes no place of a whole one"
    for step in (1, 3):
        broken(store, f"head-00001-000000{step}-1-1.safetensors", how)
    assert latest(store, state, said) is None
    assert said[-1].endswith("None is left: training starts from the start.")
    assert state.read().checkpoints == ()


def test_a_run_goes_back_to_its_start_where_its_checkpoints_are_of_another_version(
    store: Store, state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer = Checkpointer(store, state, keep=2, emit=told([]))
    with monkeypatch.context() as patch:
        patch.setattr("job.training.checkpoint.FORMAT", 3)
        for step in (1, 2):
            checkpointer.save(at(step), wait=True)
    said: list[str] = []
    assert latest(store, state, said) is None
    other = ".safetensors is of another version of Thaw: this one can't go on from it."
    assert said[0].endswith(f"head-00001-0000002-1-1{other} The checkpoint before it is used.")
    assert said[1].endswith(f"head-00001-0000001-1-1{other} None is left: training starts from the start.")
    assert state.read().checkpoints == ()
    checkpointer.save(at(3), wait=True)
    assert latest(store, state, []) == 3


def test_the_last_whole_checkpoint_outlives_those_that_can_not_be_written(
    store: Store, state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    checkpointer = Checkpointer(store, state, keep=1, emit=told(said))
    checkpointer.save(at(1), wait=True)

    def full(path: str, checkpoint: Checkpoint) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("job.training.checkpointer.write_checkpoint", full)
        checkpointer.save(at(2), wait=False)
        checkpointer.save(at(3), wait=False)
        with pytest.raises(StorageError, match=r"No space left on device.*make room, or set TMPDIR"):
            checkpointer.save(at(4), wait=True)
    assert len(said) == 2
    assert "could not be kept" in said[0]
    assert latest(store, state, []) == 1
    checkpointer.save(at(5), wait=True)
    assert latest(store, state, []) == 5
    assert files(store) == ["head-00001-0000005-1-1.safetensors"]


def test_training_does_not_wait_for_an_upload(store: Store, state: RunState, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    upload = type(store).upload

    def slow(self: Store, key: str, path: str) -> str:
        assert gate.wait(30)
        return upload(self, key, path)

    monkeypatch.setattr(type(store), "upload", slow)
    checkpointer = Checkpointer(store, state, keep=2, emit=told([]))
    checkpointer.save(at(1), wait=False)
    assert checkpointer.is_busy()
    assert latest(store, state, []) is None, "not listed before it is there"
    gate.set()
    checkpointer.save(at(2), wait=True)
    assert not checkpointer.is_busy()
    assert latest(store, state, []) == 2


def test_a_superseded_group_keeps_no_checkpoint(store: Store, state: RunState) -> None:
    old = Checkpointer(store, state, keep=2, emit=told([]))
    old.save(at(1), wait=True)
    new = RunState(store, "run", FencingToken(1)).begin_group()
    old.save(at(2), wait=False)
    with pytest.raises(Superseded):
        old.save(at(3), wait=True)
    assert latest(store, new, []) == 1


def test_what_nobody_listed_is_deleted_by_those_who_come_after(store: Store, state: RunState) -> None:
    Checkpointer(store, state, keep=2, emit=told([])).save(at(1), wait=True)
    for name in ("head-00001-0000002-1-1.safetensors", "head-00001-0000002-9-1.safetensors", "notes.txt"):
        store.write(FOLDER + name, b"half")
    new = RunState(store, "run", replace(state.token, group=None)).begin_group()
    forget_unlisted(store, new)
    assert files(store) == [
        "head-00001-0000001-1-1.safetensors",
        "head-00001-0000002-9-1.safetensors",
        "notes.txt",
    ]


def test_one_whose_progress_is_none_is_corrupt_so_that_the_one_before_it_is_used(tmp_path: Path) -> None:
    metadata = {"format": str(FORMAT), "progress": '{"phase": "head"}', "caller": "{}"}
    save_file({"losses": np.zeros(1, np.float32)}, tmp_path / "file", metadata)
    with pytest.raises(CorruptCheckpoint, match=r"uri is not what it should be \(epoch: Field required"):
        read_checkpoint(tmp_path / "file", "uri", file_sha256(tmp_path / "file"))
