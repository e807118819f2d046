"""Who works on a run, and which of its checkpoints count: one object, which only conditional writes change.

runs/<run>/state.json   {format, attempt, group, holder, renewals, checkpoints, write}, and `cancelled` {by, at}

Each `thaw run` that takes a run is an attempt; each start of its training workers is a group. Both are counted up. A
writer that finds another number than its own has been superseded: what it writes is refused, and it ends. Checkpoints
are files of their own that nobody looks at until they are listed here.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from job.errors import Replaced, StorageError, Superseded, WriteConflict
from job.run.memory import Memory
from job.storage import TRIES, Store, read_version
from job.storage.documents import decoded, encoded
from job.storage.runs import RunKeys

FORMAT = 1
FRESH = 1.0
"""Seconds for which a look at the state is enough before a write."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a run, so that others can tell whether it lives."""

    host: str
    pid: int
    since: str
    """In ISO 8601, UTC."""
    rayjob: str = ""
    """The RayJob that it runs in; empty where it runs in none."""
    boot: str = ""
    """The id of the machine's boot; empty where it is not known."""
    processes: str = ""
    """The namespace of process ids."""
    started: str = ""
    """In ticks since the boot."""
    memory: Memory | None = None
    """As it took the run."""


@dataclass(frozen=True)
class Cancellation:
    by: str
    at: str
    """In ISO 8601, UTC."""


@dataclass(frozen=True)
class CheckpointEntry:
    """A checkpoint that counts."""

    name: str
    """Of its file in the run's folder of checkpoints."""
    sha256: str
    bytes: int
    phase: str
    epoch: int
    """Epochs of the phase that were complete."""
    step: int
    """Steps of the next one."""
    finished: bool
    """Whether it is the last one of its phase."""


@dataclass(frozen=True)
class State:
    """Who works on a run, and which of its checkpoints count."""

    format: int
    attempt: int
    group: int
    holder: Holder | None
    """None: its last attempt has given it back, or nobody has taken it so far."""
    renewals: int
    checkpoints: tuple[CheckpointEntry, ...] = ()
    """The oldest first."""
    cancelled: Cancellation | None = None
    memory: Memory | None = None
    """Of the holder, when it last renewed its lease."""
    write: str = ""
    """A number that only this version has."""


@dataclass(frozen=True)
class _Format:
    """What a State of every version has."""

    format: int


class Versioned(NamedTuple):
    """The state, and the version of the object that it was read from."""

    state: State
    version: str


@dataclass(frozen=True)
class FencingToken:
    """The place that a writer holds in a run."""

    attempt: int
    group: int | None = None
    """The group of training workers; None for the driver, to whom all groups of its attempt belong."""

    def check(self, state: State, where: str) -> None:
        """Raises Superseded where the run has gone to someone else."""
        if state.attempt != self.attempt:
            raise Superseded(
                f"{where}: attempt {state.attempt} ({describe(state.holder)}) has taken this run over from "
                f"attempt {self.attempt}, which writes nothing more."
            )
        if self.group is not None and state.group != self.group:
            raise Replaced(f"{where}: these training workers were replaced by others: they write nothing more.")


class RunState:
    """The state as a holder of `token` may read and change it; one object can be used by several threads."""

    def __init__(self, store: Store, run: str, token: FencingToken) -> None:
        self.store, self.run, self.token = store, run, token
        self.key = RunKeys(run).state
        self._lock = threading.Lock()
        self._known: Versioned | None = None
        self._looked = float("-inf")

    def __reduce__(self) -> tuple[type[RunState], tuple[Store, str, FencingToken]]:
        return RunState, (self.store, self.run, self.token)

    def read(self) -> State:
        """Raises Superseded."""
        with self._lock:
            return self._read().state

    def check(self) -> None:
        """Raises Superseded where the run has gone to someone else; looks at most once in FRESH seconds."""
        with self._lock:
            if _now() - self._looked > FRESH:
                self._read()

    def change(self, edit: Callable[[State], State]) -> State:
        """Replaces the state by what `edit` makes of it, and returns that. Raises Superseded."""
        with self._lock:
            for _ in range(TRIES):
                state, version = self._known or self._read()
                self.token.check(state, self._where)
                wanted = replace(edit(state), write=uuid.uuid4().hex)
                try:
                    written = self.store.write_if_unchanged(self.key, encoded(wanted), version)
                    self._known = Versioned(wanted, written)
                    self._looked = _now()
                    return wanted
                except WriteConflict:
                    self._known = None
                    if self._read().state.write == wanted.write:  # the answer to our own write was lost
                        return wanted
            raise StorageError(f"{self._where} could not be changed in {TRIES} tries: others write it all the time.")

    def begin_group(self) -> RunState:
        """The state as a new group of workers may change it: the groups before it are superseded."""
        state = self.change(lambda state: replace(state, group=state.group + 1))
        return RunState(self.store, self.run, replace(self.token, group=state.group))

    @property
    def _where(self) -> str:
        return f"{self.store.uri}{self.key}"

    def _read(self) -> Versioned:
        found = read_state(self.store, self.run)
        if found is None:
            raise StorageError(f"{self._where} is gone: was the run deleted? Run again.")
        self.token.check(found.state, self._where)
        self._known, self._looked = found, _now()
        return found


class GuardedStore:
    """A store that writes nothing once the run has gone to someone else: every write raises Superseded then."""

    def __init__(self, store: Store, state: RunState) -> None:
        self._store, self._state = store, state
        self.uri, self.access = store.uri, store.access
        self.list, self.stat, self.read, self.read_first = store.list, store.stat, store.read, store.read_first
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
    """The entries of its checkpoints, the oldest first; none where nobody has worked on the run."""
    found = read_state(store, run)
    return found.state.checkpoints if found else ()


def read_state(store: Store, run: str) -> Versioned | None:
    """The state and its version, or None where nobody has worked on the run so far. Raises StorageError."""
    key = RunKeys(run).state
    found = read_version(store, key)
    if found is None:
        return None
    content, version = found
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
    """Raises WriteConflict where there is one."""
    store.write_if_unchanged(RunKeys(run).state, encoded(state), None)


def _now() -> float:
    """Seconds on a clock that goes on while the machine is suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
