"""The checkpoints of a run in the store: uploaded while training goes on, and listed in the run's state.

runs/<run>/checkpoints/<phase>-<epoch>-<step>-<attempt>-<group>.safetensors
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from safetensors import SafetensorError

from job.errors import CorruptCheckpoint, ObjectMissing, StorageError, Superseded
from job.run.events import Emit, Warned
from job.run.state import CheckpointEntry, GuardedStore, RunState, State
from job.storage import Store
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch
from job.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


class Checkpointer:
    """Keeps the checkpoints of a group of workers; its rank 0 has one."""

    def __init__(
        self,
        store: Store,
        state: RunState,
        *,
        keep: int,
        emit: Emit,
        measured: Callable[[str, float], None] = lambda phase, seconds: None,
    ) -> None:
        """`keep`: how many of the latest are kept, besides those that are under way. `measured` is told of each one's
        phase, and of the seconds until it was in the list.
        """
        self._store, self._state, self._keep, self._emit = GuardedStore(store, state), state, keep, emit
        self._measured, self._keys = measured, RunKeys(state.run)
        self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._upload: Future[None] | None = None

    def is_busy(self) -> bool:
        return self._upload is not None and not self._upload.done()

    def save(self, checkpoint: Checkpoint, wait: bool) -> None:
        """Begins to upload a checkpoint once the one before it is there.

        With `wait`, returns when it is listed, and raises StorageError where that fails. Without, a failure is a
        warning, and the checkpoint before it counts. Raises Superseded either way, if only at the next call.
        """
        self._settle(wait=False)
        self._upload = self._pool.submit(self._put, checkpoint, time.monotonic())
        if wait:
            self._settle(wait=True)

    def _settle(self, wait: bool) -> None:
        """The end of the upload that is under way."""
        if self._upload is None:
            return
        try:
            self._upload.result()
        except Superseded:
            raise
        except (StorageError, SafetensorError, OSError) as error:
            if wait:
                raise error if isinstance(error, StorageError) else StorageError(_no_room(error)) from error
            cause = error if isinstance(error, StorageError) else _no_room(error)
            self._emit(Warned(f"a checkpoint could not be kept: {cause} The one before it counts."))
        finally:
            self._upload = None

    def _put(self, checkpoint: Checkpoint, taken: float) -> None:
        progress, token = checkpoint.progress, self._state.token
        where = f"{progress.phase}-{progress.epoch:05}-{progress.step:07}"
        name = f"{where}-{token.attempt}-{token.group}.safetensors"
        with scratch() as folder:
            path = os.path.join(folder, "checkpoint")
            sha256, size = write_checkpoint(path, checkpoint), os.path.getsize(path)
            self._store.upload(self._keys.checkpoint(name), path)
        place = progress.phase, progress.epoch, progress.step, progress.finished
        entry = CheckpointEntry(name, sha256, size, *place)
        dropped: list[CheckpointEntry] = []

        def listed(state: State) -> State:
            others = [other for other in state.checkpoints if other.name != name]
            kept = others[max(0, len(others) + 1 - self._keep) :]
            dropped[:] = others[: len(others) - len(kept)]
            return replace(state, checkpoints=(*kept, entry))

        self._state.change(listed)
        self._measured(progress.phase, time.monotonic() - taken)
        for old in dropped:
            self._store.delete(self._keys.checkpoint(old.name))


def latest_checkpoint(store: Store, state: RunState, emit: Emit) -> tuple[CheckpointEntry, Checkpoint] | None:
    """The newest checkpoint that can be read; those that can't leave the list, with a warning."""
    entries, broken, latest = list(state.read().checkpoints), list[str](), None
    while entries and latest is None:
        entry = entries.pop()
        try:
            latest = entry, load_checkpoint(store, state.run, entry)
        except (CorruptCheckpoint, ObjectMissing) as error:
            broken.append(entry.name)
            left = "The checkpoint before it is used." if entries else "None is left: training starts from the start."
            emit(Warned(f"{error} {left}"))
    if broken:  # or they would take the places of whole ones
        state.change(lambda now: replace(now, checkpoints=tuple(e for e in now.checkpoints if e.name not in broken)))
    return latest


def load_checkpoint(store: Store, run: str, entry: CheckpointEntry) -> Checkpoint:
    """Raises CorruptCheckpoint, ObjectMissing or another StorageError."""
    key = RunKeys(run).checkpoint(entry.name)
    with scratch() as folder:
        path = os.path.join(folder, "checkpoint")
        store.download(key, path)
        return read_checkpoint(path, f"{store.uri}{key}", entry.sha256)


def forget_unlisted(store: Store, state: RunState) -> None:
    """Deletes what groups before this one uploaded and did not get to list."""
    token, prefix = state.token, RunKeys(state.run).checkpoint("")
    listed = {entry.name for entry in state.read().checkpoints}
    guarded = GuardedStore(store, state)
    for info in list(store.list(prefix)):
        name = info.key.removeprefix(prefix)
        numbers = name.removesuffix(".safetensors").split("-")[-2:]
        ours = len(numbers) == 2 and all(number.isdecimal() for number in numbers)
        if ours and name not in listed and tuple(map(int, numbers)) < (token.attempt, token.group or 0):
            guarded.delete(info.key)


def _no_room(error: Exception) -> str:
    return f"{tempfile.gettempdir()}: it could not be written there ({error}): make room, or set TMPDIR."
