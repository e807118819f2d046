"""Workers that are told to find each other, and do not: Python stands still in them, so that the driver says so."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import ray.util.queue

from job.errors import ClusterError
from job.executors.ray import listener as listening
from job.executors.ray.ledger import Ledger
from job.executors.ray.listener import Listener
from job.run.events import WorkersFormed, WorkersForming
from job.run.strategy import free_addresses


class Events(queue.Queue[Any]):
    """Ray's queue, without Ray."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return super().get(block, timeout)
        except queue.Empty:
            raise ray.util.queue.Empty from None

    def shutdown(self) -> None:  # type: ignore[override]
        pass


class Called:
    def __init__(self, method: Any) -> None:
        self.remote = method


class Actor:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __getattr__(self, name: str) -> Called:
        return Called(getattr(self.ledger, name))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Listener, Ledger, Events, threading.Event]]:
    monkeypatch.setattr(listening, "FORMING", 0.2)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    events, ledger, broken_off = Events(), Ledger(), threading.Event()
    listener = Listener(events, lambda event: None, Actor(ledger), workers="2 workers", break_off=broken_off.set)
    yield listener, ledger, events, broken_off
    listener.stopped()


FORMING = WorkersForming(free_addresses("127.0.0.1", 2), "http_proxy=http://proxy:3128")


def test_workers_that_do_not_come_together_end_the_run(driver: Any) -> None:
    listener, ledger, events, broken_off = driver
    events.put(FORMING)
    assert broken_off.wait(30)
    assert ledger.is_over()
    assert isinstance(listener.error, ClusterError)
    for told in (
        "The 2 training workers (",
        f"nobody answers at {FORMING.addresses[0]}",
        "proxies (http_proxy=http",
    ):
        assert told in str(listener.error)


@pytest.mark.parametrize("what", ["formed", "failed", "preempted"])
def test_workers_that_came_together_or_are_begun_anew_go_on(what: str, driver: Any) -> None:
    listener, ledger, events, broken_off = driver
    if what == "failed":
        ledger.failed("a worker died")
    elif what == "preempted":
        ledger.preempted()
    events.put(FORMING)
    if what == "formed":
        events.put(WorkersFormed())
    assert not broken_off.wait(1)
    assert (listener.error, ledger.is_over()) == (None, False)
