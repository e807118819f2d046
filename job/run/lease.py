"""The lease of a run: one attempt at a time works on it, and says so every few seconds.

A lease that was not renewed for LEASE seconds belongs to nobody: the next attempt takes the run over by a conditional
write that counts the attempt up. Where the attempt before it ran on this machine and its process is gone, it does not
wait. No clocks are compared.

Anyone may write into the state that the run be cancelled: who holds it finds that when it renews its lease.
"""

from __future__ import annotations

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from job.errors import JobError, StorageError, Superseded, WriteConflict
from job.run.events import Announced, Emit, Warned
from job.run.memory import memory_now, why_ended
from job.run.state import (
    Cancellation,
    FencingToken,
    GuardedStore,
    Holder,
    RunState,
    State,
    create_state,
    describe,
    first_state,
    read_state,
)
from job.storage import Store
from job.storage.runs import run_uri

LEASE = 15.0
"""Seconds without a renewal after which an attempt counts as dead."""
RENEWAL = 5.0
"""Seconds between renewals."""
LOOK = 0.5
"""Seconds between looks at someone else's lease."""


class Lease:
    """A run taken by this process, until the end of the `with` block."""

    def __init__(
        self, store: Store, run: str, attempt: int, lost: Callable[[Superseded], None], cancelled: Callable[[str], None]
    ) -> None:
        """From another thread, `lost` is called when the run has gone to someone else, and `cancelled` once, with who
        wants that and since when.
        """
        self.state = RunState(store, run, FencingToken(attempt))
        self.store: Store = GuardedStore(store, self.state)
        self._lost, self._cancelled, self._released = lost, cancelled, threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._released.set()
        self._thread.join()
        try:
            self.state.change(lambda state: replace(state, holder=None))
        except StorageError:
            if kind is None:
                raise

    def _renew(self) -> None:
        told = False
        while not self._released.wait(RENEWAL):
            try:
                state = self.state.change(_renewed)
            except Superseded as error:
                return self._lost(error)
            except StorageError:  # nobody can take the run either while the storage is away
                continue
            if not told and state.cancelled is not None:
                told = True
                self._cancelled(f"`thaw cancel` of {state.cancelled.by} at {state.cancelled.at}")


def _renewed(state: State) -> State:
    return replace(state, renewals=state.renewals + 1, memory=memory_now())


def take(
    store: Store,
    run: str,
    emit: Emit,
    lost: Callable[[Superseded], None],
    cancelled: Callable[[str], None] = lambda by: None,
) -> Lease:
    """Takes the run, also one that was cancelled: who starts it again wants it to go on.

    Raises StorageError where another attempt is alive.
    """
    watched: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        found = read_state(store, run)
        if found is None:
            try:
                create_state(store, run, first_state(_holder()))
                return Lease(store, run, 1, lost, cancelled)
            except WriteConflict:
                continue
        state = found.state
        seen = state.attempt, state.renewals
        if is_free(state) or (watched == seen and time.monotonic() - since > LEASE):
            if attempt := _take_over(store, run, state):
                if told := how_it_ended(state):
                    emit(Warned(told))
                return Lease(store, run, attempt, lost, cancelled)
        elif watched is None:
            watched, since = seen, time.monotonic()
            emit(Announced(f"attempt {state.attempt} of this run may be at work: watching it for {LEASE:g} s"))
        elif watched != seen:
            raise StorageError(
                f"{run_uri(store, run)}: attempt {state.attempt} ({describe(state.holder)}) is "
                "at work on this run: wait for it, or end it."
            )
        time.sleep(LOOK)


def _take_over(store: Store, run: str, seen: State) -> int | None:
    """The number of the new attempt; None where someone else was faster."""
    state = RunState(store, run, FencingToken(seen.attempt))
    mine = _holder()

    def edit(now: State) -> State:
        if now.renewals != seen.renewals:
            raise WriteConflict("renewed")
        return replace(now, attempt=now.attempt + 1, holder=mine, cancelled=None, memory=None)

    try:
        return state.change(edit).attempt
    except (WriteConflict, Superseded):
        found = read_state(store, run)
        ours = found is not None and found.state.holder == mine  # the answer to our own write was lost
        return found.state.attempt if found and ours else None


def cancel(store: Store, run: str) -> State:
    """Writes down that the run be cancelled, and returns its state. Raises JobError where nobody works on it."""
    where = run_uri(store, run)
    wish = Cancellation(f"{_user()} on {socket.gethostname()}", _now())
    while True:
        found = read_state(store, run)
        if found is None:
            raise JobError(f"{where}: there is no such run: nobody has worked on it.")
        state = found.state
        if state.holder is None or is_free(state):
            raise JobError(f"{where}: nobody works on this run: attempt {state.attempt} has ended.")
        if rayjob := state.holder.rayjob:
            raise JobError(
                f"{where}: attempt {state.attempt} runs in the RayJob {rayjob}, which would start it again: "
                f"`thaw cancel {rayjob}` ends it."
            )
        try:
            return RunState(store, run, FencingToken(state.attempt)).change(
                lambda now: replace(now, cancelled=now.cancelled or wish)
            )
        except Superseded:
            continue


def reserve(store: Store, run: str) -> None:
    """Makes `run` the latest of the runs of the same thing, to be taken by whoever works on it first."""
    with suppress(WriteConflict):  # it is reserved, or at work, already
        create_state(store, run, replace(first_state(None), attempt=0))


def is_free(state: State) -> bool:
    """Whether the attempt has ended, or its process is gone from this machine."""
    holder = state.holder
    if holder is None:
        return True
    here = _myself()
    if not here.boot or (holder.boot, holder.processes) != (here.boot, here.processes):
        return False
    return _started(holder.pid) != holder.started


def how_it_ended(state: State) -> str:
    """What is told of an attempt that has left the run without a word; empty where it has given it back."""
    holder = state.holder
    if holder is None:
        return ""
    boot, first = _myself().boot, holder.memory
    why = why_ended(first, state.memory or first, memory_now() if boot and holder.boot == boot else None)
    return f"attempt {state.attempt} ({describe(holder)}) ended without a word: it was killed, or its machine.{why}"


def _holder() -> Holder:
    """This process as one that takes a run."""
    return replace(_myself(), memory=memory_now())


def _myself() -> Holder:
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=_now(),
        rayjob=os.environ.get("THAW_RAYJOB", ""),
        boot=_text("/proc/sys/kernel/random/boot_id"),
        processes=_namespace(),
        started=_started(os.getpid()),
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in many containers
        return f"user {os.getuid()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _started(process: int) -> str:
    """When the process was started, in ticks since the boot; empty where there is none, or only what is left of it."""
    text = _text(f"/proc/{process}/stat")
    fields = text.rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _namespace() -> str:
    """The namespace of process ids: two containers of one machine can have the same."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
