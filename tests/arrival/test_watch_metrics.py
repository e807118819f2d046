"""The HTTP server of a watcher."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from job.arrival.settings import Listen
from job.arrival.watch_metrics import served
from job.errors import JobError
from support.watching import Watching

ANY = Listen(port=0)


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_checks_and_metrics_are_answered(watching: Watching) -> None:
    watcher = watching.watcher
    with served(ANY, watching.metrics, watcher.is_alive, is_ready=watcher.is_ready) as port:
        assert answer(port, "/healthz")[0] == 200
        assert answer(port, "/readyz") == (503, "503 Service Unavailable\n")
        watcher.receive(0)
        assert answer(port, "/readyz") == (200, "200 OK\n")
        assert answer(port, "/secrets")[0] == 404
        watching.messages.send("hello")
        watcher.receive(0)
        status, page = answer(port, "/metrics")
        assert status == 200
        assert 'thaw_watch_messages_total{outcome="refused"} 1.0' in page
        assert "thaw_watch_held_messages 0.0" in page


def test_nothing_that_a_message_tells_becomes_a_label(watching: Watching) -> None:
    from support.arrivals import s3_event

    for body in (s3_event("evil-bucket", "images/evil"), s3_event("cells", 'images/evil"\n'), '{"evil": 1}'):
        watching.messages.send(body)
    watching.turn(100)
    labels = {
        value
        for family in watching.metrics.registry.collect()
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert not [label for label in labels if "evil" in label]
    assert {"cells", "refused", "covered", "created"} <= labels


def test_a_client_that_never_asks_holds_nobody_up(watching: Watching) -> None:
    with served(ANY, watching.metrics, lambda: True, is_ready=lambda: True) as port, socket.socket() as idle:
        idle.connect(("127.0.0.1", port))
        assert answer(port, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_named(watching: Watching) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(JobError, match=f"listen: 127.0.0.1:{port} can't be listened at"),
            served(Listen(port=port), watching.metrics, lambda: True, is_ready=lambda: True),
        ):
            pass
