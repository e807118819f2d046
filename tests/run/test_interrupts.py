"""SIGTERM."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from job.errors import Interrupted
from job.run.interrupts import ASK, Interrupts


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_of_training_it_breaks_off() -> None:
    with pytest.raises(Interrupted, match="Stopped by SIGTERM: what is done is kept") as stopped, Interrupts():
        terminate()
    assert stopped.value.exit_code == 143


def test_training_is_asked_to_stop_and_a_second_signal_breaks_off() -> None:
    asked = threading.Event()
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: asked.set()):
        assert not asked.wait(0.5)
        terminate()
        assert asked.wait(10)
        assert interrupts.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            terminate()


def test_someone_else_may_ask_in_their_own_name() -> None:
    interrupts = Interrupts()
    with pytest.raises(Interrupted, match="Stopped by a friend: "), interrupts:
        interrupts.ask("a friend")


def test_who_asks_after_a_signal_breaks_nothing_off() -> None:
    """As a RayJob is deleted, Ray sends SIGTERM, and then its head's pod drains, and the RayJob may be given up."""
    asked = threading.Event()
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: asked.set()):
        terminate()
        for _ in range(3):
            os.kill(os.getpid(), ASK)
            interrupts.ask("a friend")
        assert asked.wait(10)
        assert interrupts.asked == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            terminate()


def both_pending() -> None:
    """SIGTERM and ASK at once: Python's handlers run in the order of the signals' numbers."""
    numbers = {signal.SIGTERM, ASK}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)  # no other thread can take it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def test_a_drain_that_is_seen_before_the_sigterm_it_followed_breaks_nothing_off() -> None:
    asked = threading.Event()
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: asked.set()):
        both_pending()
        assert asked.wait(10)
        assert interrupts.asked == "`thaw drain`", "the order that this test is about"
        with pytest.raises(KeyboardInterrupt):
            terminate()


def test_both_at_once_outside_of_training_break_off_once() -> None:
    cleaned_up: list[bool] = []

    def run() -> None:
        try:
            both_pending()
        finally:
            for _ in range(1000):  # where a signal that is pending is handled
                os.getpid()
            cleaned_up.append(True)

    with pytest.raises(Interrupted), Interrupts():
        run()
    assert cleaned_up


def test_where_nobody_asked_before_draining_does() -> None:
    asked = threading.Event()
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: asked.set()):
        os.kill(os.getpid(), ASK)
        assert asked.wait(10)
        assert interrupts.asked == "`thaw drain`"
        terminate()
        with pytest.raises(KeyboardInterrupt):
            terminate()


def test_breaking_off_needs_no_signal_before_it() -> None:
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: None):
        interrupts.ask("a friend")
        with pytest.raises(KeyboardInterrupt):
            interrupts.break_off()


@pytest.mark.parametrize(
    ("act", "number"),
    [(lambda one: one.ask("a friend"), ASK), (Interrupts.break_off, signal.SIGTERM)],
    ids=["ask", "break off"],
)
def test_it_is_the_main_thread_that_is_woken(act: Callable[[Interrupts], None], number: signal.Signals) -> None:
    """Whatever it waits for: a signal that another thread takes does not end a call that blocks."""
    with Interrupts() as interrupts, interrupts.passed_to(lambda over: None):
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        thread = threading.Thread(target=act, args=(interrupts,))
        thread.start()
        thread.join()
        assert (number in signal.sigpending(), interrupts.asked) == (True, "")
        with suppress(KeyboardInterrupt):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        assert interrupts.asked


def test_nobody_is_asked_once_it_is_over() -> None:
    with Interrupts() as interrupts:
        pass
    interrupts.ask("a friend")
    assert interrupts.asked == ""


def test_asking_does_nothing_where_signals_are_not_handled() -> None:
    Interrupts().ask("a friend")


def test_the_handler_before_it_comes_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, ASK)]
    with Interrupts():
        assert all(signal.getsignal(number) not in before for number in (signal.SIGTERM, ASK))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, ASK)] == before


def test_another_thread_than_the_main_one_handles_nothing() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with Interrupts():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]
