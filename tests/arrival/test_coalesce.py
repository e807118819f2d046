"""When what was received is due, by a clock that the tests turn."""

from __future__ import annotations

import random

from job.arrival.coalesce import Coalescer


def test_a_job_is_due_when_it_was_quiet_for_long_enough() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=900)
    assert coalescer.due_at() is None
    coalescer.add("a", sent=5, now=10)
    assert coalescer.due_at() == 70
    coalescer.add("b", sent=4, now=50)
    assert coalescer.due_at() == 110


def test_arrivals_without_an_end_are_due_at_the_longest_wait() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=900)
    for now in range(0, 2000, 30):
        coalescer.add(str(now), sent=now, now=now)
    assert coalescer.due_at() == 900


def test_a_round_has_what_was_received_before_it_and_nothing_else() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=900)
    coalescer.add("a", sent=7, now=0)
    coalescer.add("b", sent=3, now=1)
    assert coalescer.begin() == 3
    coalescer.add("c", sent=9, now=100)
    assert coalescer.due_at() is None, "one round at a time"
    assert coalescer.covered() == ["a", "b"]
    assert coalescer.due_at() == 160, "it waits from its own receipt on"
    assert coalescer.begin() == 9
    assert coalescer.covered() == ["c"]
    assert coalescer.due_at() is None


def test_a_round_that_came_to_nothing_is_due_again_with_what_came_meanwhile() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=900)
    coalescer.add("a", sent=0, now=0)
    coalescer.begin()
    coalescer.add("b", sent=100, now=100)
    coalescer.again()
    assert coalescer.due_at() == 160
    coalescer.begin()
    assert coalescer.covered() == ["a", "b"]


def test_the_longest_wait_is_that_of_the_first_message_also_after_a_failure() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=100)
    coalescer.add("a", sent=0, now=0)
    coalescer.begin()
    coalescer.again()
    coalescer.add("b", sent=90, now=90)
    assert coalescer.due_at() == 100


def test_messages_that_are_not_held_any_more_are_not_waited_for() -> None:
    coalescer = Coalescer(quiet_for=60, max_wait=900)
    coalescer.add("a", sent=0, now=0)
    coalescer.add("b", sent=0, now=0)
    coalescer.forget("a")
    assert coalescer.due_at() == 60
    coalescer.forget("b")
    assert coalescer.due_at() is None
    assert coalescer.begin() is None
    assert coalescer.covered() == []


def test_no_message_is_lost_or_covered_twice_whatever_happens() -> None:
    chance, now = random.Random(3), 0.0
    for _ in range(200):
        coalescer = Coalescer(chance.uniform(0, 5), chance.uniform(5, 20))
        open_round, held, covered, made = False, set(), set(), 0
        for _ in range(100):
            now += chance.uniform(0, 4)
            action = chance.choice(["add", "add", "add", "begin", "covered", "again", "forget"])
            if action == "add":
                made += 1
                coalescer.add(str(made), now, now)
                held.add(str(made))
            elif action == "begin" and (due := coalescer.due_at()) is not None and due <= now and not open_round:
                coalescer.begin()
                open_round = True
            elif action == "covered" and open_round:
                ids = set(coalescer.covered())
                assert ids <= held
                held -= ids
                covered |= ids
                open_round = False
            elif action == "again" and open_round:
                coalescer.again()
                open_round = False
            elif action == "forget" and held:
                held.discard(gone := chance.choice(sorted(held)))
                coalescer.forget(gone)
        if open_round:
            coalescer.again()
        if held:
            assert coalescer.due_at() is not None
            coalescer.begin()
        assert set(coalescer.covered()) == held
        assert not covered & held
