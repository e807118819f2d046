"""Damaged files for every reader: each is read, or refused in a sentence.

python benchmarks/fuzz.py [--count 1000] [--seed 0] [--readers tar parquet …]

A sentence is a reason for rejecting an example, or an error of job.errors. Anything else that is raised is a traceback,
and so is an input that takes longer than LIMIT seconds. Prints a table, then each kind of traceback with the number of
its first input; `--readers NAME --only NUMBER` reads that input alone, and lets the traceback through.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fuzzed
from tables import markdown

from job.errors import ThawError

LIMIT = 20.0
"""Seconds that an input may take on a machine on which others work."""


@dataclass
class Outcome:
    """What became of the inputs of a reader."""

    reader: str
    inputs: int = 0
    whole: int = 0
    sentences: int = 0
    tracebacks: dict[str, int] = field(default_factory=dict)
    """The number of the first input, by what was raised and where."""
    slowest: float = 0.0
    """Seconds."""

    def row(self) -> tuple[str, ...]:
        numbers = (self.inputs, self.whole, self.sentences, self.inputs - self.whole - self.sentences)
        return self.reader, *(f"{number:,}" for number in numbers), f"{self.slowest:.2f}"


def fuzz(reader: fuzzed.Reader, count: int, seed: int, limit: float = LIMIT) -> Outcome:
    """The same inputs for the same seed."""
    outcome = Outcome(reader.name)
    with tempfile.TemporaryDirectory(prefix="thaw-fuzz-") as folder:
        read = reader.make(Path(folder))
        for number in range(count):
            content, begin = damaged(reader, number, seed), time.perf_counter()
            try:
                with _limit(limit):
                    reasons = read(content)
                outcome.sentences += bool(reasons)
                outcome.whole += not reasons
            except ThawError as error:
                outcome.sentences += bool(str(error))
            except Exception as error:
                outcome.tracebacks.setdefault(_kind(error), number)
            outcome.inputs += 1
            outcome.slowest = max(outcome.slowest, time.perf_counter() - begin)
    return outcome


def damaged(reader: fuzzed.Reader, number: int, seed: int) -> bytes:
    generator = random.Random(f"{reader.name} {seed} {number}")
    return generator.choice(reader.mutations)(generator, generator.choice(reader.seeds()))


def _kind(error: Exception) -> str:
    """What was raised, and the last of our lines that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "/job/" in frame.filename), frames[-1])
    return f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {str(error)[:80]!r}"


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError; where the interpreter does not come to it, all stacks are shown and the process ends."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=fuzzed.READERS, default=list(fuzzed.READERS))
    parser.add_argument("--only", type=int, help="this input alone")
    options = parser.parse_args()
    readers = [fuzzed.READERS[name] for name in options.readers]
    if options.only is not None:
        with tempfile.TemporaryDirectory(prefix="thaw-fuzz-") as folder:
            print(readers[0].make(Path(folder))(damaged(readers[0], options.only, options.seed)))
        return
    outcomes = [_told(fuzz(reader, options.count, options.seed)) for reader in readers]
    head = ("reader", "inputs", "read whole", "sentences", "tracebacks", "longest, seconds")
    print(markdown([head, *(outcome.row() for outcome in outcomes)]))
    for outcome in outcomes:
        for kind, number in outcome.tracebacks.items():
            print(f"{outcome.reader}, input {number}: {kind}")
    raise SystemExit(any(outcome.tracebacks for outcome in outcomes))


def _told(outcome: Outcome) -> Outcome:
    print(" ".join(outcome.row()), file=sys.stderr, flush=True)
    return outcome


if __name__ == "__main__":
    main()
