"""A worker that does not get on ends itself, and says where it was."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from job.training.watchdog import STALLED, Watchdog

HANGS = """
import sys, threading, time
from job.training.watchdog import Watchdog

def waits_for_the_others():
    threading.Event().wait()

dog = Watchdog(0.5, lambda stacks: print(stacks, flush=True))
for _ in range(10):
    time.sleep(0.1)
    dog.beat()
print("got on", flush=True)
waits_for_the_others()
"""


def test_a_process_that_hangs_shows_its_stacks_and_ends() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert done.returncode == STALLED
    first, stacks = done.stdout.split("\n", 1)
    assert first == "got on"
    assert "in waits_for_the_others" in stacks


def test_it_ends_even_where_nobody_takes_its_report() -> None:
    left: list[int] = []

    def report(stacks: str) -> None:
        raise OSError("the store is away too")

    try:
        caught: list[object] = []
        before, threading.excepthook = threading.excepthook, lambda args: caught.append(args.exc_value)
        Watchdog(0.2, report, left.append)
        time.sleep(1)
    finally:
        threading.excepthook = before
    assert left == [STALLED]
    assert [str(error) for error in caught] == ["the store is away too"]


def test_it_ends_even_where_its_report_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.training.watchdog.REPORT", 0.1)
    left: list[int] = []
    hung = threading.Event()
    Watchdog(0.2, lambda stacks: bool(hung.wait(60)), left.append)
    time.sleep(1)
    hung.set()
    assert left == [STALLED]


def test_it_lets_go_at_the_end() -> None:
    left: list[int] = []
    dog = Watchdog(0.2, lambda stacks: None, left.append)
    dog.end()
    time.sleep(0.6)
    assert left == []
