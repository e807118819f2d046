from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from job.run.drain import drain

ENDS = "signal.signal(signal.SIGUSR1, lambda *_, **__: (time.sleep(1), sys.exit(143)))"
GOES_ON = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)"
RUN = """
from job.run.interrupts import Interrupts
def work(said):
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: print("asked", flush=True)):
        print(said, flush=True)
        while not interrupts.asked: time.sleep(0.1)
        time.sleep(2)
        print("a checkpoint, for", interrupts.asked, flush=True)
sys.exit(work("ready"))
"""
"""What trains until it is asked to end, and then needs a while for its checkpoint."""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A process with these words on its command line, after the program."""
    with ExitStack() as stack:

        def started(on_signal: str, program: str, *words: str) -> subprocess.Popen[str]:
            script = tmp_path / program
            code = f"import signal, sys, time\n{on_signal}\nprint('ready', flush=True)\ntime.sleep(60)"
            script.write_text(code)
            command = [sys.executable, str(script), *words]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            return process

        yield started


def test_a_run_is_asked_to_end_and_waited_for(start: Start) -> None:
    run = start(ENDS, "thaw", "run", "/etc/thaw")
    assert drain(30, run.pid)
    assert run.wait() == 143


def test_a_run_that_was_told_to_end_just_before_keeps_its_checkpoint(start: Start) -> None:
    """As a RayJob is deleted: Ray's SIGTERM comes first, and then its pod drains."""
    run = start(RUN, "thaw", "run", "/etc/thaw")
    run.send_signal(signal.SIGTERM)
    assert run.stdout is not None
    assert run.stdout.readline() == "asked\n"
    assert drain(30, run.pid)
    assert run.stdout.read() == "a checkpoint, for SIGTERM\n"
    assert run.wait() == 0


def test_after_the_time_that_was_given_nobody_waits(start: Start) -> None:
    run = start(GOES_ON, "thaw", "run", "job.yaml")
    assert not drain(1, run.pid)
    assert run.poll() is None


@pytest.mark.parametrize("words", [("thaw", "predict", "run"), ("other", "run")])
def test_what_is_no_run_goes_on(words: tuple[str, ...], start: Start) -> None:
    process = start("signal.signal(signal.SIGTERM, signal.SIG_DFL)", *words)
    assert drain(30, process.pid)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
