"""Work that is begun before it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from job.executors.ahead import ahead


def wait_for(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_the_items_come_in_their_order() -> None:
    assert list(ahead(range(1000), 3)) == list(range(1000))
    assert list(ahead([], 3)) == []
    assert list(ahead([None, None], 1)) == [None, None]
    wait_for(lambda: not threads())


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_are_made_than_that_many_before_the_one_in_use_is_done(count: int) -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    for used in ahead(items(), count):
        wait_for(lambda used=used: len(made) == min(used + 1 + count, 20))
        time.sleep(0.02)
        assert len(made) == min(used + 1 + count, 20)


def test_they_are_made_while_the_one_before_is_in_use() -> None:
    """Each step waits for the other side: one after another they would never end."""
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    for number in ahead(items(), 1):
        assert number == 3 or begun[number + 1].wait(30)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_an_error_is_raised_in_the_place_of_what_was_not_made(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise error

    found: list[int] = []

    def use() -> None:
        for one in ahead(items(), 5):
            found.append(one)

    with pytest.raises(type(error)) as caught:
        use()
    assert caught.value is error
    assert found == [0, 1]
    wait_for(lambda: not threads())


def test_who_stops_early_ends_the_thread_and_what_it_was_made_from() -> None:
    made: list[int] = []
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.set()

    consumed = ahead(items(), 2)
    assert next(consumed) == 0
    consumed.close()
    assert closed.wait(30)
    wait_for(lambda: not threads())
    assert len(made) <= 4
