"""The HTTP server of the watcher: metrics for Prometheus, and checks whether it is alive and ready."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from job.arrival.settings import Listen
from job.errors import JobError

MINUTE, HOUR = 60, 3600
TO_RAYJOB = (5, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, 12 * HOUR)
TO_PROMOTION = (5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 24 * HOUR)


class WatchMetrics:
    """The metrics. Labels are names from the watch file and the outcomes below, never content of messages."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registered: dict[str, Any] = {"registry": self.registry}
        self.messages = Counter(
            "thaw_watch_messages",
            "Messages by what became of them: covered, ignored, test, refused, released, lapsed.",
            ["outcome"],
            **registered,
        )
        self.decisions = Counter(
            "thaw_watch_decisions",
            "Snapshots by what was decided: created, exists, finished, too_few, not_worth_it, deferred, failed.",
            ["job", "outcome"],
            **registered,
        )
        self.rayjobs = Counter("thaw_watch_rayjobs_created", "RayJobs created.", ["job"], **registered)
        self.errors = Counter(
            "thaw_watch_errors", "Failures of the queue, the cluster or the storage.", ["where"], **registered
        )
        self.held = Gauge("thaw_watch_held_messages", "Messages received and not yet covered.", **registered)
        self.oldest = Gauge("thaw_watch_oldest_held_seconds", "Since the first of them was sent.", **registered)
        self.to_rayjob = Histogram(
            "thaw_watch_first_event_to_rayjob_seconds",
            "From a snapshot's first event to its RayJob.",
            ["job"],
            buckets=TO_RAYJOB,
            **registered,
        )
        self.to_promotion = Histogram(
            "thaw_watch_first_event_to_promotion_seconds",
            "From a snapshot's first event to its model's being current.",
            ["job"],
            buckets=TO_PROMOTION,
            **registered,
        )


@contextmanager
def served(
    listen: Listen, metrics: WatchMetrics, is_alive: Callable[[], bool], *, is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Serves /metrics, /healthz and /readyz within the `with` block; yields the port. Raises JobError."""
    page, checks = make_wsgi_app(metrics.registry), {"/healthz": is_alive, "/readyz": is_ready}

    def app(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            return page(environment, start)
        check = checks.get(path)
        status = "404 Not Found" if check is None else "200 OK" if check() else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain")])
        return [status.encode() + b"\n"]

    try:
        server = make_server(listen.host, listen.port, app, _Server, _Quiet)
    except OSError as error:
        raise JobError(f"listen: {listen.host}:{listen.port} can't be listened at: {error.strerror}.") from error
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores the error: clients may disconnect."""


class _Quiet(WSGIRequestHandler):
    timeout = 10
    """The most seconds of a request, so that an unfinished one does not hold a thread for ever."""

    def log_message(self, *_: Any) -> None:
        pass
