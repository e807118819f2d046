"""The lease of a run: one attempt at a time works on it, and renews its lease every few seconds.

A lease that was not renewed for LEASE seconds has expired: the next attempt takes the run over by a conditional write
that increments the attempt. It does not wait where the attempt before it ran on this machine and its process is gone.
Clocks of different machines are never compared.

Anyone may write a cancellation into the state: the holder reads it when it renews its lease.
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

from job.config.own_rayjob import own_rayjob
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
from job.storage.run_keys import run_uri

LEASE = 15.0
"""Seconds without a renewal after which an attempt counts as dead."""
RENEWAL = 5.0
"""Seconds between renewals."""
LOOK = 0.5
"""Seconds between checks of another attempt's lease."""


class Lease:
    """The lease of a run that this process has taken. It is renewed until the end of the `with` block."""

    def __init__(
        self,
        store: Store,
        run: str,
        attempt: int,
        *,
        lost: Callable[[Superseded], None],
        cancelled: Callable[[str], None],
    ) -> None:
        """Both are called in another thread: `lost` when another attempt has taken the run over, and `cancelled` once,
        with words about who cancelled the run and when.
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
        is_reported = False
        while not self._released.wait(RENEWAL):
            try:
                state = self.state.change(_renewed)
            except Superseded as error:
                return self._lost(error)
            except StorageError:  # nobody can take the run either while the storage is away
                continue
            if not is_reported and state.cancelled is not None:
                is_reported = True
                self._cancelled(f"`thaw cancel` of {state.cancelled.by} at {state.cancelled.at}")


def _renewed(state: State) -> State:
    return replace(state, renewals=state.renewals + 1, memory=memory_now())


def take(
    store: Store,
    run: str,
    emit: Emit,
    *,
    lost: Callable[[Superseded], None],
    cancelled: Callable[[str], None] = lambda by: None,
) -> Lease:
    """Takes the run, also one that was cancelled: starting it again means that it should go on.

    Raises StorageError where another attempt is alive.
    """
    watched: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        versioned = read_state(store, run)
        if versioned is None:
            try:
                create_state(store, run, first_state(_holder()))
                return Lease(store, run, 1, lost=lost, cancelled=cancelled)
            except WriteConflict:
                continue
        state = versioned.state
        seen = state.attempt, state.renewals
        if is_free(state) or (watched == seen and time.monotonic() - since > LEASE):
            if attempt := _take_over(store, run, state):
                if reason := how_it_ended(state):
                    emit(Warned(reason))
                return Lease(store, run, attempt, lost=lost, cancelled=cancelled)
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
    """Takes the run over. Returns the number of the new attempt; None where someone else was faster."""
    state = RunState(store, run, FencingToken(seen.attempt))
    holder = _holder()

    def edit(now: State) -> State:
        if now.renewals != seen.renewals:
            raise WriteConflict("renewed")
        return replace(now, attempt=now.attempt + 1, holder=holder, cancelled=None, memory=None)

    try:
        return state.change(edit).attempt
    except (WriteConflict, Superseded):
        versioned = read_state(store, run)
        ours = versioned is not None and versioned.state.holder == holder  # the answer to our own write was lost
        return versioned.state.attempt if versioned and ours else None


def cancel(store: Store, run: str) -> State:
    """Writes a cancellation into the state of the run, and returns the state. Raises JobError where nobody works on
    it.
    """
    where = run_uri(store, run)
    wish = Cancellation(f"{_user()} on {socket.gethostname()}", _now())
    while True:
        versioned = read_state(store, run)
        if versioned is None:
            raise JobError(f"{where}: there is no such run: nobody has worked on it.")
        state = versioned.state
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
    """Makes `run` the latest of the runs with the same inputs. The first attempt takes it."""
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
    """A message about an attempt that ended without releasing its lease; empty where it has released it."""
    holder = state.holder
    if holder is None:
        return ""
    boot, first = _myself().boot, holder.memory
    why = why_ended(first, state.memory or first, memory_now() if boot and holder.boot == boot else None)
    return f"attempt {state.attempt} ({describe(holder)}) ended without a word: it was killed, or its machine.{why}"


def _holder() -> Holder:
    """This process as the holder of a run, with its memory now."""
    return replace(_myself(), memory=memory_now())


def _myself() -> Holder:
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=_now(),
        rayjob=own_rayjob(),
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
    """The start of the process, in ticks since the boot; empty where there is no such process, or only a zombie."""
    text = _text(f"/proc/{process}/stat")
    fields = text.rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _namespace() -> str:
    """The namespace of process ids, since containers of one machine may have processes with the same id."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
