"""The lease of a run: who may work on it, also after SIGKILL and SIGSTOP of who did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from job.errors import Interrupted, JobError, StorageError, Superseded
from job.run import lease
from job.run.identity import latest_run
from job.run.interrupts import Interrupts
from job.run.lease import Lease, cancel, reserve, take
from job.run.state import CheckpointEntry, State, read_state
from job.storage import Store
from job.storage.run_keys import RunKeys

HOLD = """
import sys
from job.errors import Superseded
from job.run import lease
from job.storage import open_store

lease.LEASE, lease.RENEWAL = {times}
try:
    with lease.take(open_store(sys.argv[1]), "run", lambda *_, **__: None, lost=lambda error: None) as mine:
        print("taken", mine.state.token.attempt, flush=True)
        for word in sys.stdin:
            mine.store.write("zombie", word.encode())
            print("written", flush=True)
except Superseded as error:
    print(error, flush=True)
"""
TIMES = (2.0, 0.2)
Hold = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", TIMES[0])
    monkeypatch.setattr(lease, "RENEWAL", TIMES[1])
    monkeypatch.setattr(lease, "LOOK", 0.05)
    monkeypatch.setattr("job.run.state.FRESH", 0.0)


@pytest.fixture
def hold(store: Store) -> Iterator[Hold]:
    """Starts a process that holds the run and writes what it is told to."""
    started = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLD.format(times=TIMES), store.uri]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("taken")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def taken(store: Store, said: list[str] | None = None) -> Lease:
    told = [] if said is None else said
    return take(store, "run", lambda event: told.append(event.text), lost=_unexpected)


def _unexpected(error: Superseded) -> None:
    raise AssertionError(error)


ONE = CheckpointEntry("one", "", 0, "head", 1, 0, finished=False)


def state_of(store: Store) -> State:
    found = read_state(store, "run")
    assert found is not None
    return found.state


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_attempts_are_counted_and_a_run_that_ended_is_free_at_once(store: Store) -> None:
    for attempt in (1, 2, 3):
        told: list[str] = []
        with taken(store, told) as mine:
            assert mine.state.token.attempt == attempt
            assert state_of(store).holder.pid == os.getpid()
        assert state_of(store).holder is None
        assert told == []


def test_a_run_is_free_after_an_error_too(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), taken(store):
        raise ZeroDivisionError
    assert state_of(store).holder is None


def test_a_living_attempt_keeps_its_run(store: Store, hold: Hold) -> None:
    process = hold()
    told: list[str] = []
    with pytest.raises(StorageError, match=rf"attempt 1 \(process {process.pid} on .*\) is at work on this run") as no:
        taken(store, told)
    assert no.value.exit_code == 4
    assert "may be at work" in told[0]
    assert process.poll() is None


def test_a_killed_attempt_of_this_machine_is_followed_without_a_wait(
    store: Store, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(hold())
    monkeypatch.setattr(lease, "LEASE", 1e9)
    with taken(store) as mine:
        assert mine.state.token.attempt == 2


def test_a_killed_attempt_of_another_machine_is_followed_when_its_lease_has_run_out(
    store: Store, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(hold())
    here = lease._myself
    monkeypatch.setattr(lease, "_myself", lambda: replace(here(), boot="another machine"))
    begun = time.monotonic()
    with taken(store) as mine:
        assert mine.state.token.attempt == 2
    assert time.monotonic() - begun >= TIMES[0]


def test_an_attempt_that_slept_through_its_lease_writes_nothing_more(store: Store, hold: Hold) -> None:
    process = hold()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("early\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGSTOP)
    with taken(store) as mine:
        assert mine.state.token.attempt == 2
        before = {info.key: info.version for info in store.list() if info.key != RunKeys("run").state}
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("late\n", timeout=30)
        assert "attempt 2 (process " in out
        assert "writes nothing more" in out
        after = {info.key: info.version for info in store.list() if info.key != RunKeys("run").state}
        assert after == before
        assert store.read("zombie") == b"early\n"
        assert state_of(store).attempt == 2


def test_of_many_that_come_at_once_one_gets_the_run(store: Store) -> None:
    got: list[Lease] = []
    refused: list[StorageError] = []
    barrier = threading.Barrier(6)

    def come() -> None:
        barrier.wait()
        try:
            with taken(store) as mine:
                got.append(mine)
                time.sleep(3 * TIMES[1] + 1)
        except StorageError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 5
    assert state_of(store).attempt == 1


def test_a_store_that_is_away_for_a_while_costs_nobody_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with taken(store) as mine:
        write = mine.state.store.write_if_unchanged

        def away(*_: Any, **__: Any) -> str:
            raise StorageError("away")

        monkeypatch.setattr(mine.state.store, "write_if_unchanged", away)
        before = state_of(store).renewals
        time.sleep(4 * TIMES[1])
        assert state_of(store).renewals == before
        monkeypatch.setattr(mine.state.store, "write_if_unchanged", write)
        time.sleep(4 * TIMES[1])
        assert state_of(store).renewals > before


def test_who_holds_a_run_that_is_cancelled_hears_of_it_once(store: Store) -> None:
    heard: list[str] = []
    came = threading.Event()

    def hear(by: str) -> None:
        heard.append(by)
        came.set()

    with take(store, "run", lambda *_, **__: None, lost=_unexpected, cancelled=hear) as mine:
        mine.state.change(lambda state: replace(state, checkpoints=(ONE,)))
        wish = cancel(store, "run").cancelled
        assert cancel(store, "run").cancelled == wish
        assert came.wait(20)
        before = state_of(store).renewals
        while state_of(store).renewals < before + 3:
            time.sleep(TIMES[1])
        assert state_of(store).checkpoints == (ONE,)
    assert heard == [f"`thaw cancel` of {wish.by} at {wish.at}"]


def test_a_cancelled_run_ends_as_after_sigterm(store: Store) -> None:
    def work() -> None:
        with (
            Interrupts() as interrupts,
            take(store, "run", lambda *_, **__: None, lost=_unexpected, cancelled=interrupts.ask),
        ):
            cancel(store, "run")
            time.sleep(20)

    with pytest.raises(Interrupted, match=r"Stopped by `thaw cancel` of .* on .* at 20.*: what is done is kept") as end:
        work()
    assert end.value.exit_code == 143
    assert state_of(store).holder is None


def test_running_a_cancelled_run_again_goes_on_with_it(store: Store) -> None:
    with taken(store):
        cancel(store, "run")
    assert state_of(store).cancelled is not None
    with taken(store):
        assert state_of(store).cancelled is None


def test_cancelling_waits_for_nobody_and_finds_the_attempt_that_has_taken_over(
    store: Store, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(hold())
    read = lease.read_state
    stale = read(store, "run")
    with taken(store):
        answers = iter([stale])
        monkeypatch.setattr(lease, "read_state", lambda *where: next(answers, None) or read(*where))
        monkeypatch.setattr(lease, "is_free", lambda document: False)
        assert cancel(store, "run").attempt == 2


def test_nothing_is_cancelled_where_nobody_works(store: Store) -> None:
    with pytest.raises(JobError, match="there is no such run"):
        cancel(store, "run")
    with taken(store):
        pass
    with pytest.raises(JobError, match="nobody works on this run: attempt 1 has ended"):
        cancel(store, "run")


def test_a_run_of_a_rayjob_is_cancelled_by_its_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_RAYJOB", "cells-0123456789ab")
    with taken(store), pytest.raises(JobError, match="`thaw cancel cells-0123456789ab` ends it"):
        cancel(store, "run")
    assert state_of(store).cancelled is None


def test_a_reserved_run_is_the_latest_and_its_first_attempt_is_the_first(store: Store) -> None:
    with taken(store):
        pass
    assert latest_run(store, "run", another=True) == "run-2"
    for _ in range(2):
        reserve(store, "run-2")
        assert latest_run(store, "run", another=False) == "run-2"
        assert latest_run(store, "run", another=True) == "run-2"
    with take(store, "run-2", lambda *_, **__: None, lost=_unexpected) as mine:
        assert mine.state.token.attempt == 1
        reserve(store, "run-2")
    assert latest_run(store, "run", another=True) == "run-3"


def test_who_goes_on_with_a_run_is_told_how_the_attempt_before_ended(store: Store, hold: Hold) -> None:
    process = hold()
    end = time.monotonic() + 30
    while (seen := state_of(store).memory) is None:
        assert time.monotonic() < end
        time.sleep(TIMES[1])
    assert 0 < seen.used < seen.total
    kill(process)
    told: list[tuple[str, str]] = []
    with take(store, "run", lambda event: told.append((event.kind, event.text)), lost=_unexpected):
        ((kind, text),) = told
        assert kind == "warning"
        assert text.startswith(f"attempt 1 (process {process.pid} on ")
        assert "ended without a word: it was killed, or its machine." in text
    with taken(store, said := []):
        assert said == [], "the second one has given it back"
