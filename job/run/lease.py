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
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from job.errors import JobError, StorageError, Superseded, WriteConflict
from job.run.events import Announced, Emit, Warned
from job.run.memory import memory_now, why_ended
from job.run.state import (
    Document,
    FencingToken,
    GuardedStore,
    RunState,
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
            self.state.change(lambda state: {**state, "holder": None})
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
            if not told and "cancelled" in state:
                told = True
                self._cancelled("`thaw cancel` of {by} at {at}".format(**state["cancelled"]))


def _renewed(state: Document) -> Document:
    return {**state, "renewals": state["renewals"] + 1, "memory": memory_now()}


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
        document, _ = found
        seen = document["attempt"], document["renewals"]
        if is_free(document) or (watched == seen and time.monotonic() - since > LEASE):
            if attempt := _take_over(store, run, document):
                if told := how_it_ended(document):
                    emit(Warned(told))
                return Lease(store, run, attempt, lost, cancelled)
        elif watched is None:
            watched, since = seen, time.monotonic()
            emit(Announced(f"attempt {document['attempt']} of this run may be at work: watching it for {LEASE:g} s"))
        elif watched != seen:
            raise StorageError(
                f"{run_uri(store, run)}: attempt {document['attempt']} ({describe(document['holder'])}) is "
                "at work on this run: wait for it, or end it."
            )
        time.sleep(LOOK)


def _take_over(store: Store, run: str, seen: Document) -> int | None:
    """The number of the new attempt; None where someone else was faster."""
    state = RunState(store, run, FencingToken(seen["attempt"]))
    mine = _holder()

    def edit(document: Document) -> Document:
        if document["renewals"] != seen["renewals"]:
            raise WriteConflict("renewed")
        kept = {name: value for name, value in document.items() if name not in ("cancelled", "memory")}
        return {**kept, "attempt": document["attempt"] + 1, "holder": mine}

    try:
        return int(state.change(edit)["attempt"])
    except (WriteConflict, Superseded):
        found = read_state(store, run)
        ours = found is not None and found[0]["holder"] == mine  # the answer to our own write was lost
        return int(found[0]["attempt"]) if found and ours else None


def cancel(store: Store, run: str) -> Document:
    """Writes down that the run be cancelled, and returns its state. Raises JobError where nobody works on it."""
    where = run_uri(store, run)
    wish = {"by": f"{_user()} on {socket.gethostname()}", "at": _now()}
    while True:
        found = read_state(store, run)
        if found is None:
            raise JobError(f"{where}: there is no such run: nobody has worked on it.")
        document, _ = found
        if is_free(document):
            raise JobError(f"{where}: nobody works on this run: attempt {document['attempt']} has ended.")
        if rayjob := document["holder"].get("rayjob"):
            raise JobError(
                f"{where}: attempt {document['attempt']} runs in the RayJob {rayjob}, which would start it again: "
                f"`thaw cancel {rayjob}` ends it."
            )
        try:
            return RunState(store, run, FencingToken(document["attempt"])).change(
                lambda now: {"cancelled": wish, **now}
            )
        except Superseded:
            continue


def reserve(store: Store, run: str) -> None:
    """Makes `run` the latest of the runs of the same thing, to be taken by whoever works on it first."""
    with suppress(WriteConflict):  # it is reserved, or at work, already
        create_state(store, run, {**first_state(None), "attempt": 0})


def is_free(document: Document) -> bool:
    """Whether the attempt has ended, or its process is gone from this machine."""
    holder = document["holder"]
    if holder is None:
        return True
    here = _myself()
    if not here["boot"] or any(holder[name] != here[name] for name in ("boot", "processes")):
        return False
    return _started(holder["pid"]) != holder["started"]


def how_it_ended(document: Document) -> str:
    """What is told of an attempt that has left the run without a word; empty where it has given it back."""
    holder = document["holder"]
    if holder is None:
        return ""
    boot, first = _myself()["boot"], holder.get("memory")
    why = why_ended(first, document.get("memory") or first, memory_now() if boot and holder["boot"] == boot else None)
    return (
        f"attempt {document['attempt']} ({describe(holder)}) ended without a word: it was killed, or its machine.{why}"
    )


def _holder() -> Document:
    """This process as one that takes a run."""
    return {"memory": memory_now(), **_myself()}


def _myself() -> Document:
    """This process, so that others can tell whether it lives."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": _now(),
        "rayjob": os.environ.get("THAW_RAYJOB", ""),
        "boot": _text("/proc/sys/kernel/random/boot_id"),
        "processes": _namespace(),
        "started": _started(os.getpid()),
    }


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
