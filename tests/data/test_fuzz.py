"""Damaged files: every reader reads them or says why not. `python benchmarks/fuzz.py` shows what became of each."""

from __future__ import annotations

import fuzz
import fuzzed
import pytest

from support.cases import slow


@pytest.mark.parametrize(
    ("reader", "count"), [*((name, 30) for name in fuzzed.READERS), *slow(*((name, 1000) for name in fuzzed.READERS))]
)
def test_a_damaged_file_is_read_or_refused_in_a_sentence(reader: str, count: int) -> None:
    outcome = fuzz.fuzz(fuzzed.READERS[reader], count, seed=0)
    assert outcome.tracebacks == {}
    assert outcome.whole + outcome.sentences == outcome.inputs == count
    assert outcome.sentences > count // 10


def test_a_traceback_and_an_input_that_takes_too_long_are_found() -> None:
    def broken(content: bytes) -> list[str]:
        if len(content) % 2:
            raise IndexError("index out of range")
        while True:
            pass

    reader = fuzzed.Reader("broken", lambda folder: broken, lambda: [bytes(100)])
    outcome = fuzz.fuzz(reader, 6, seed=0, limit=0.05)
    assert {kind.split(" at ")[0] for kind in outcome.tracebacks} == {"IndexError", "TimeoutError"}
    assert (outcome.whole, outcome.sentences, outcome.inputs) == (0, 0, 6)
    assert fuzz.damaged(reader, 3, seed=0) == fuzz.damaged(reader, 3, seed=0) != fuzz.damaged(reader, 3, seed=1)
