"""What is told of a process that ended without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from job.run import lease, memory
from job.run.lease import how_it_ended, take
from job.run.memory import Memory, memory_now, why_ended
from job.run.state import State, first_state, read_state
from job.storage import open_store

GIB = 2**30
SEEN = "it had 3.0 GiB when it was last seen, and 2.0 GiB were free"
LESS = "Give it more memory, or lower train.batch_size."
KILLED = f" Since it began, the kernel has ended a process for want of memory; {SEEN}. {LESS}"
PLENTY = Memory(used=3 * GIB, free=2 * GIB, total=16 * GIB, kills=7)


def of(**changed: int) -> Memory:
    return replace(PLENTY, **changed)


@pytest.mark.parametrize(
    ("first", "last", "now", "told"),
    [
        (PLENTY, PLENTY, PLENTY, ""),
        (of(used=GIB), PLENTY, of(kills=8), KILLED),
        (PLENTY, of(kills=8), of(kills=8), KILLED),
        (of(kills=6), PLENTY, PLENTY, KILLED),
        (PLENTY, PLENTY, None, ""),
        (PLENTY, of(free=GIB // 2), None, "Perhaps"),
        (PLENTY, of(free=GIB // 2), PLENTY, "Perhaps"),
        (None, of(free=GIB // 2), of(kills=8), "Perhaps"),
        (PLENTY, of(free=GIB), None, ""),
        (None, None, PLENTY, ""),
        (PLENTY, None, of(kills=8), ""),
    ],
)
def test_the_kernels_kills_and_memory_that_was_scarce_are_told_of(
    first: Memory | None, last: Memory | None, now: Memory | None, told: str
) -> None:
    found = why_ended(first, last, now)
    if told == "Perhaps":
        told = f" Perhaps the kernel ended it for want of memory: {SEEN.replace('2.0', '0.5')}. {LESS}"
    assert found == told


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group's files in place of the machine's."""
    files = (str(tmp_path / "limit"), str(tmp_path / "usage"))
    monkeypatch.setattr(memory, "CGROUPS", ((str(tmp_path / "none"), str(tmp_path / "none")), files))
    return tmp_path


def total_of(folder: Path, limit: str) -> tuple[int, int]:
    """What is free, and in all."""
    (folder / "limit").write_text(limit)
    found = memory_now()
    assert found is not None
    return found.free, found.total


def test_a_container_has_no_more_than_its_limit(group: Path) -> None:
    (group / "usage").write_text(f"{40 * 2**20}\n")
    assert total_of(group, f"{100 * 2**20}\n") == (60 * 2**20, 100 * 2**20)
    (group / "usage").write_text(f"{101 * 2**20}\n")
    assert total_of(group, f"{100 * 2**20}\n") == (0, 100 * 2**20)


@pytest.mark.parametrize("limit", ["max\n", f"{2**63 - 4096}\n", ""])
def test_a_container_without_a_limit_has_the_machines_memory(limit: str, group: Path) -> None:
    free, total = total_of(group, limit)
    assert 0 < free < total
    assert total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_a_process_knows_what_it_has() -> None:
    before = memory_now()
    assert before is not None
    held = bytearray(64 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    after = memory_now()
    assert after is not None
    assert 48 * 2**20 < after.used - before.used < 128 * 2**20


def test_where_nothing_is_known_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another system than Linux."""
    monkeypatch.setattr(memory, "_table", lambda path: {})
    assert memory_now() is None


def attempt(last: Memory | None = PLENTY, **holder: Any) -> State:
    """The state of a run whose third attempt works in this boot of this machine, with memory to spare."""
    mine = replace(lease._myself(), **{"pid": 7, "host": "here", "since": "noon", "memory": PLENTY, **holder})
    return replace(first_state(mine), attempt=3, memory=last)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the machine has now."""

    def has(**changed: int) -> None:
        monkeypatch.setattr(lease, "memory_now", lambda: of(**changed))

    has()
    return has


GONE = "attempt 3 (process 7 on here, since noon) ended without a word: it was killed, or its machine."


def test_an_attempt_that_was_killed_is_told_of(machine: Callable[..., None]) -> None:
    assert how_it_ended(attempt()) == GONE


def test_an_attempt_that_has_given_the_run_back_is_not(machine: Callable[..., None]) -> None:
    machine(kills=8)
    assert how_it_ended(replace(attempt(), holder=None)) == ""


def test_a_kill_since_it_began_is_told_of_on_the_same_boot_of_the_same_machine(machine: Callable[..., None]) -> None:
    machine(kills=8)
    assert how_it_ended(attempt()) == GONE + KILLED
    assert how_it_ended(attempt(boot="another")) == GONE


def test_scarce_memory_is_told_of_wherever_it_was(machine: Callable[..., None]) -> None:
    state = attempt(of(free=GIB // 4), boot="another")
    assert how_it_ended(state).startswith(f"{GONE} Perhaps the kernel ended it for want of memory: it had 3.0 GiB")


def test_an_attempt_that_ended_before_it_renewed_its_lease_is_known_by_what_it_had_as_it_began(
    machine: Callable[..., None],
) -> None:
    assert "and 0.2 GiB were free" in how_it_ended(attempt(None, memory=of(free=GIB // 4)))
    assert how_it_ended(attempt(None, memory=None)) == GONE, "of an earlier release"


GREEDY = """
import sys
from pathlib import Path
Path(sys.argv[2]).write_text("0")
from job.run import lease
from job.storage import open_store
lease.RENEWAL = 0.05
nothing = lambda *_, **__: None
with lease.take(open_store(sys.argv[1]), "run", nothing, lost=nothing) as mine:
    print("taken", flush=True)
    sys.stdin.readline()
    held = []
    while True:
        held.append(bytearray(b"x") * 2**20)
"""
LIMIT = 256 * 2**20


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of this machine with little memory: the file that who writes to joins it."""
    for root, limits in (
        ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")),
        ("/sys/fs/cgroup", ("memory.max", "memory.swap.max")),
    ):
        folder = Path(root, f"thaw-test-{uuid4().hex[:8]}")
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limits[0]).exists():
            break
        folder.rmdir()
    else:
        pytest.skip("no control group of memory can be made here: it takes root, and /sys/fs/cgroup")
    try:
        (folder / limits[0]).write_text(str(LIMIT))
        with suppress(OSError):  # without swap there is no such file
            (folder / limits[1]).write_text("0" if limits[1].endswith("max") else str(LIMIT))
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


def test_a_run_that_the_kernel_ended_for_want_of_memory_says_so_to_who_goes_on_with_it(
    small_group: Path, tmp_path: Path
) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    command = [sys.executable, "-c", GREEDY, store.uri, str(small_group)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            process.communicate("\n", timeout=60)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    told: list[tuple[str, str]] = []
    with take(store, "run", lambda event: told.append((event.kind, event.text)), lost=lambda error: None) as mine:
        assert mine.state.token.attempt == 2
        found = read_state(store, "run")
        assert found is not None
        assert found.state.memory is None, "that of the attempt before is not taken for this one's"
    ((kind, text),) = told
    assert kind == "warning"
    assert text.startswith(f"attempt 1 (process {process.pid} on ")
    assert "Since it began, the kernel has ended a process for want of memory; it had 0." in text
