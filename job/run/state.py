"""The state of a run, its holder and its valid checkpoints: one object, which only conditional writes change.

runs/<run>/state.json   {format, attempt, group, holder, renewals, checkpoints, write}, and `cancelled` {by, at}

Each `thaw run` that takes a run is an attempt; each start of its training workers is a group. Both numbers only grow. A
writer that reads another number than its own has been superseded: its writes are refused, and it ends. Checkpoints are
separate files, which do not count until they are listed here.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from job.errors import Replaced, StorageError, Superseded, WriteConflict
from job.run.memory import Memory
from job.storage import TRIES, Store, read_version
from job.storage.documents import OMITTED, decoded, encoded
from job.storage.run_keys import RunKeys

FORMAT = 1
FRESH = 1.0
"""Seconds for which the state, once read, is recent enough to allow a write."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a run, identified so that others can find out whether it lives."""

    host: str
    pid: int
    since: str
    """The time when it took the run, in ISO 8601, UTC."""
    rayjob: str = ""
    """The RayJob that it runs in; empty without one."""
    boot: str = ""
    """The id of the machine's boot; empty where it is not known."""
    processes: str = ""
    """The namespace of process ids."""
    started: str = ""
    """The start of the process, in ticks since the boot."""
    memory: Memory | None = None
    """The memory of the process when it took the run."""


@dataclass(frozen=True)
class Cancellation:
    by: str
    at: str
    """The time of the cancellation, in ISO 8601, UTC."""


@dataclass(frozen=True)
class CheckpointEntry:
    """A checkpoint that counts."""

    name: str
    """The name of its file in the run's folder of checkpoints."""
    sha256: str
    bytes: int
    phase: str
    epoch: int
    """The complete epochs of the phase."""
    step: int
    """The complete steps of the next epoch."""
    finished: bool
    """Whether this is the last checkpoint of its phase."""


@dataclass(frozen=True)
class State:
    """The state of a run: its holder and its valid checkpoints."""

    format: int
    attempt: int
    group: int
    holder: Holder | None
    """The process that holds the run; None where the last attempt has released it, or nobody has taken it so far."""
    renewals: int
    checkpoints: tuple[CheckpointEntry, ...] = ()
    """The valid checkpoints, the oldest first."""
    cancelled: Cancellation | None = field(default=None, metadata=OMITTED)
    memory: Memory | None = None
    """The memory of the holder when it last renewed its lease."""
    write: str = ""
    """An id that only this version of the object has."""


@dataclass(frozen=True)
class _Format:
    """The part of a State that all formats share."""

    format: int


class Versioned(NamedTuple):
    """The state, and the version of the object that it was read from."""

    state: State
    version: str


@dataclass(frozen=True)
class FencingToken:
    """The attempt and group of a writer, by which superseded writers are recognised."""

    attempt: int
    group: int | None = None
    """The group of training workers; None for the driver, which may write in all groups of its attempt."""

    def check(self, state: State, where: str) -> None:
        """Raises Superseded where another attempt has taken the run over, and Replaced where another group has."""
        if state.attempt != self.attempt:
            raise Superseded(
                f"{where}: attempt {state.attempt} ({describe(state.holder)}) has taken this run over from "
                f"attempt {self.attempt}, which writes nothing more."
            )
        if self.group is not None and state.group != self.group:
            raise Replaced(f"{where}: these training workers were replaced by others: they write nothing more.")


class RunState:
    """Reads and changes the state for the holder of `token`. Several threads may use one object."""

    def __init__(self, store: Store, run: str, token: FencingToken) -> None:
        self.store, self.run, self.token = store, run, token
        self.key = RunKeys(run).state
        self._lock = threading.Lock()
        self._known: Versioned | None = None
        self._looked = float("-inf")

    def __reduce__(self) -> tuple[type[RunState], tuple[Store, str, FencingToken]]:
        return RunState, (self.store, self.run, self.token)

    def read(self) -> State:
        """The current state. Raises Superseded."""
        with self._lock:
            return self._read().state

    def check(self) -> None:
        """Raises Superseded where the token is no longer valid. Reads the state at most once in FRESH seconds."""
        with self._lock:
            if _now() - self._looked > FRESH:
                self._read()

    def change(self, edit: Callable[[State], State]) -> State:
        """Replaces the state by the result of `edit`, and returns the new state. Raises Superseded."""
        with self._lock:
            for _ in range(TRIES):
                state, version = self._known or self._read()
                self.token.check(state, self._where)
                changed = replace(edit(state), write=uuid.uuid4().hex)
                try:
                    written = self.store.write_if_unchanged(self.key, encoded(changed), version)
                    self._known = Versioned(changed, written)
                    self._looked = _now()
                    return changed
                except WriteConflict:
                    self._known = None
                    if self._read().state.write == changed.write:  # the answer to our own write was lost
                        return changed
            raise StorageError(f"{self._where} could not be changed in {TRIES} tries: others write it all the time.")

    def begin_group(self) -> RunState:
        """Begins a new group of workers, which supersedes earlier groups. Returns the state for the new group."""
        state = self.change(lambda state: replace(state, group=state.group + 1))
        return RunState(self.store, self.run, replace(self.token, group=state.group))

    @property
    def _where(self) -> str:
        return f"{self.store.uri}{self.key}"

    def _read(self) -> Versioned:
        versioned = read_state(self.store, self.run)
        if versioned is None:
            raise StorageError(f"{self._where} is gone: was the run deleted? Run again.")
        self.token.check(versioned.state, self._where)
        self._known, self._looked = versioned, _now()
        return versioned


class GuardedStore:
    """A store whose writes raise Superseded once another attempt has taken the run over."""

    def __init__(self, store: Store, state: RunState) -> None:
        self._store, self._state = store, state
        self.uri, self.access = store.uri, store.access
        self.list, self.pages, self.folders, self.stat = store.list, store.pages, store.folders, store.stat
        self.read, self.read_first, self.read_range = store.read, store.read_first, store.read_range
        self.download, self.arrow = store.download, store.arrow

    def __reduce__(self) -> tuple[type[GuardedStore], tuple[Store, RunState]]:
        return GuardedStore, (self._store, self._state)

    def write(self, key: str, data: bytes) -> str:
        self._state.check()
        return self._store.write(key, data)

    def write_if_unchanged(self, key: str, data: bytes, version: str | None) -> str:
        self._state.check()
        return self._store.write_if_unchanged(key, data, version)

    def upload(self, key: str, path: str) -> str:
        self._state.check()
        return self._store.upload(key, path)

    def delete(self, key: str) -> None:
        self._state.check()
        self._store.delete(key)

    def forget_unfinished(self, prefix: str, seconds: float) -> None:
        self._state.check()
        self._store.forget_unfinished(prefix, seconds)


def checkpoints_of(store: Store, run: str) -> tuple[CheckpointEntry, ...]:
    """The valid checkpoints of a run, the oldest first; none where nobody has worked on it."""
    versioned = read_state(store, run)
    return versioned.state.checkpoints if versioned else ()


def has_trained_head(store: Store, run: str, *, unconverged: bool = True) -> bool:
    """Whether there is a checkpoint from which fine-tuning may start, or go on. A head whose epochs are over may not
    have converged: it counts where `unconverged` ones do.
    """
    entries = checkpoints_of(store, run)
    return any(entry.phase == "fine_tune" or (entry.finished and unconverged) for entry in entries)


def read_state(store: Store, run: str) -> Versioned | None:
    """The state and its version, or None where nobody has worked on the run so far. Raises StorageError."""
    key = RunKeys(run).state
    stored = read_version(store, key)
    if stored is None:
        return None
    content, version = stored
    where = f"{store.uri}{key}"
    if decoded(content, _Format, where).format != FORMAT:
        raise StorageError(f"{where} was written by another version of Thaw: start the run with --new.")
    return Versioned(decoded(content, State, where), version)


def first_state(holder: Holder | None) -> State:
    return State(FORMAT, attempt=1, group=0, holder=holder, renewals=0)


def describe(holder: Holder | None) -> str:
    """The process that holds a run, in words."""
    if holder is None:
        return "already ended"
    return f"process {holder.pid} on {holder.host}, since {holder.since}"


def create_state(store: Store, run: str, state: State) -> None:
    """Writes the first state of a run. Raises WriteConflict where it has one."""
    store.write_if_unchanged(RunKeys(run).state, encoded(state), None)


def _now() -> float:
    """Seconds of a clock that also counts while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
