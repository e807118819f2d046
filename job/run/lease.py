"""The lease of a run: one attempt at a time works on it, and says so every few seconds.

A lease that was not renewed for LEASE seconds belongs to nobody: the next attempt takes the run over by a conditional
write that counts the attempt up. Where the attempt before it ran on this machine and its process is gone, it does not
wait. No clocks are compared.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from job.errors import StorageError, Superseded, WriteConflict
from job.storage import Store
from job.train.runstate import (
    Document,
    GuardedStore,
    RunState,
    Ticket,
    create_state,
    describe,
    first_state,
    read_state,
)

LEASE = 15.0
"""Seconds without a renewal after which an attempt counts as dead."""
RENEWAL = 5.0
"""Seconds between renewals."""
LOOK = 0.5
"""Seconds between looks at someone else's lease."""


class Lease:
    """A run taken by this process, until the end of the `with` block."""

    def __init__(self, store: Store, run: str, attempt: int, lost: Callable[[Superseded], None]) -> None:
        """`lost` is called, from another thread, when the run has gone to someone else."""
        self.state = RunState(store, run, Ticket(attempt))
        self.store: Store = GuardedStore(store, self.state)
        self._lost, self._released = lost, threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._released.set()
        self._thread.join()
        try:
            self.state.change(lambda state: {**state, "holder": None})
        except StorageError:
            if kind is None:
                raise

    def _renew(self) -> None:
        while not self._released.wait(RENEWAL):
            try:
                self.state.change(lambda state: {**state, "renewals": state["renewals"] + 1})
            except Superseded as error:
                return self._lost(error)
            except StorageError:  # nobody can take the run either while the storage is away
                continue


def take(store: Store, run: str, say: Callable[..., None], lost: Callable[[Superseded], None]) -> Lease:
    """Takes the run. Raises StorageError where another attempt is alive."""
    watched: tuple[int, int] | None = None
    since = time.monotonic()
    while True:
        found = read_state(store, run)
        if found is None:
            try:
                create_state(store, run, first_state(_myself()))
                return Lease(store, run, 1, lost)
            except WriteConflict:
                continue
        document, _ = found
        seen = document["attempt"], document["renewals"]
        if _is_free(document) or (watched == seen and time.monotonic() - since > LEASE):
            if attempt := _take_over(store, run, document):
                return Lease(store, run, attempt, lost)
        elif watched is None:
            watched, since = seen, time.monotonic()
            say("stage", text=f"attempt {document['attempt']} of this run may be at work: watching it for {LEASE:g} s")
        elif watched != seen:
            raise StorageError(
                f"{store.uri}runs/{run}/: attempt {document['attempt']} ({describe(document['holder'])}) is at work "
                "on this run: wait for it, or end it."
            )
        time.sleep(LOOK)


def _take_over(store: Store, run: str, seen: Document) -> int | None:
    """The number of the new attempt; None where someone else was faster."""
    state = RunState(store, run, Ticket(seen["attempt"]))
    mine = _myself()

    def edit(document: Document) -> Document:
        if document["renewals"] != seen["renewals"]:
            raise WriteConflict("renewed")
        return {**document, "attempt": document["attempt"] + 1, "holder": mine}

    try:
        return int(state.change(edit)["attempt"])
    except (WriteConflict, Superseded):
        found = read_state(store, run)
        ours = found is not None and found[0]["holder"] == mine  # the answer to our own write was lost
        return int(found[0]["attempt"]) if found and ours else None


def _is_free(document: Document) -> bool:
    """Whether the attempt has ended, or its process is gone from this machine."""
    holder = document["holder"]
    if holder is None:
        return True
    here = _myself()
    if not here["boot"] or any(holder[name] != here[name] for name in ("boot", "processes")):
        return False
    return _started(holder["pid"]) != holder["started"]


def _myself() -> Document:
    """This process, so that others can tell whether it lives."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "processes": _namespace(),
        "started": _started(os.getpid()),
    }


def _started(process: int) -> str:
    """When the process was started, in ticks since the boot; empty where there is none, or only what is left of it."""
    text = _text(f"/proc/{process}/stat")
    fields = text.rpartition(")")[2].split()
    return fields[19] if fields and fields[0] not in "ZX" else ""


def _namespace() -> str:
    """Of process ids: two containers of one machine can have the same."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
