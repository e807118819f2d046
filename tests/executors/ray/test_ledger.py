"""What the driver and its groups of workers tell each other."""

from __future__ import annotations

import time

from job.executors.ray.ledger import PAUSES, REPEATS, Ledger


def test_a_failure_that_repeats_without_a_new_checkpoint_ends_the_attempt() -> None:
    ledger = Ledger()
    starts = []
    for _ in range(REPEATS + 1):
        starts.append(ledger.begin("head-1"))
        ledger.failed("worker 0: killed")
    assert [start.refused for start in starts[:REPEATS]] == [""] * REPEATS
    assert [start.pause for start in starts[:REPEATS]] == list(PAUSES)
    assert starts[REPEATS].refused == (
        "Training failed 3 times in a row after checkpoint head-1; the last time: worker 0: killed"
    )


def test_a_new_checkpoint_begins_the_count_anew() -> None:
    ledger = Ledger()
    for number in range(10):
        assert ledger.begin(f"head-{number}").refused == ""
        ledger.failed("killed")


def test_preemptions_and_changes_of_size_are_nobodys_fault() -> None:
    ledger = Ledger()
    ledger.begin("")
    for _ in range(10):
        ledger.failed("lost its node")
        ledger.preempted()
        start = ledger.begin("")
        assert (start.pause, start.refused) == (PAUSES[0], "")
        assert ledger.begin("").pause == PAUSES[0], "others came or went"


def test_groups_that_failed_are_counted() -> None:
    ledger = Ledger()
    for checkpoint in ("a", "b", "b"):
        ledger.begin(checkpoint)
        ledger.failed("killed")
        ledger.failed("lost the other one", follows=True)
    ledger.begin("c")
    ledger.failed("lost its node")
    ledger.preempted()
    ledger.begin("c")
    assert ledger.failures() == 3


def test_workers_that_stop_begin_again_elsewhere_unless_they_were_asked_to_stop() -> None:
    ledger = Ledger()
    ledger.stopped()
    assert not ledger.is_over()
    ledger.stop()
    ledger.stopped()
    assert ledger.is_over()


def test_the_first_error_is_the_cause_and_not_what_follows_from_it() -> None:
    ledger = Ledger()
    ledger.failed("rank 0: UnavailableError: socket closed", follows=True)
    assert ledger.cause() == "rank 0: UnavailableError: socket closed"
    ledger.failed("worker 1: killed")
    ledger.failed("rank 2: ValueError")
    assert ledger.cause() == "worker 1: killed"


def test_workers_that_ask_are_at_work() -> None:
    ledger = Ledger()
    time.sleep(0.02)
    assert ledger.is_idle(0.01)
    ledger.is_stopping()
    assert not ledger.is_idle(10)


def test_what_was_said_once_holds() -> None:
    ledger = Ledger()
    assert (ledger.is_over(), ledger.is_stopping()) == (False, False)
    ledger.stop()
    assert not ledger.knows_stop(), "nobody has asked since"
    assert ledger.is_stopping()
    assert ledger.knows_stop()
    ledger.end()
    assert ledger.is_over()
