"""What Prometheus reads of an embedded run, where THAW_METRICS_PORT says that it may: the names that Ray's exporter
gives the same figures, so that one dashboard and one set of alerts serve both.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

from job.errors import JobError
from job.run.instruments import WorkerMetrics

PORT = "THAW_METRICS_PORT"
PREFIX = "ray_"
"""Ray's exporter puts it before every name."""


def metrics_here() -> WorkerMetrics:
    """Raises JobError where the port can't be had."""
    if not (port := os.environ.get(PORT)):
        return Unread()
    if find_spec("prometheus_client") is None:
        raise JobError(f"{PORT}: prometheus-client is not installed: pip install 'thaw[watch]'.")
    try:
        return _served(port)
    except (OSError, ValueError, OverflowError) as error:
        raise JobError(f"{PORT}={port}: no metrics can be served there: {error}.") from error


@cache
def _served(port: str) -> Served:
    """One for all runs of this process."""
    from prometheus_client import start_http_server

    served = Served()
    start_http_server(int(port), registry=served.registry)
    return served


class Unread:
    """Nobody reads it."""

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Unread:
        return self

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Unread:
        return self

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: list[float]) -> Unread:
        return self

    def set(self, value: float, tags: dict[str, str]) -> None:
        pass

    inc = observe = set


class Served:
    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self._made: dict[str, _Instrument] = {}

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> _Instrument:
        from prometheus_client import Gauge

        return self._once(Gauge, name, text, labels)

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> _Instrument:
        from prometheus_client import Counter

        return self._once(Counter, name, text, labels)

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: list[float]) -> _Instrument:
        from prometheus_client import Histogram

        return self._once(Histogram, name, text, labels, buckets=bounds)

    def _once(self, kind: Any, name: str, text: str, labels: tuple[str, ...], **more: Any) -> _Instrument:
        if name not in self._made:
            self._made[name] = _Instrument(kind(f"{PREFIX}{name}", text, labels, registry=self.registry, **more))
        return self._made[name]


class _Instrument:
    def __init__(self, made: Any) -> None:
        self._made = made

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._made.labels(**tags).set(value)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self._made.labels(**tags).inc(value)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self._made.labels(**tags).observe(value)
