"""Metrics of an embedded run for Prometheus, where THAW_METRICS_PORT is set. They have the same names as in Ray's
exporter, so that one dashboard and one set of alerts serve both.
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
"""The prefix that Ray's exporter adds to every name."""


def metrics_here() -> WorkerMetrics:
    """The metrics of this process, served where THAW_METRICS_PORT is set. Raises JobError where the port can't be
    opened.
    """
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
    """The metrics server, one for all runs of this process."""
    from prometheus_client import start_http_server

    served = Served()
    start_http_server(int(port), registry=served.registry)
    return served


class Unread:
    """Metrics that are not served."""

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Unread:
        return self

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Unread:
        return self

    def histogram(self, name: str, text: str, labels: tuple[str, ...], *, bounds: list[float]) -> Unread:
        return self

    def set(self, value: float, tags: dict[str, str]) -> None:
        pass

    inc = observe = set


class Served:
    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry = CollectorRegistry()
        self._instruments: dict[str, _Instrument] = {}

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> _Instrument:
        from prometheus_client import Gauge

        return self._once(Gauge, name, text, labels=labels)

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> _Instrument:
        from prometheus_client import Counter

        return self._once(Counter, name, text, labels=labels)

    def histogram(self, name: str, text: str, labels: tuple[str, ...], *, bounds: list[float]) -> _Instrument:
        from prometheus_client import Histogram

        return self._once(Histogram, name, text, labels=labels, buckets=bounds)

    def _once(self, kind: Any, name: str, text: str, *, labels: tuple[str, ...], **more: Any) -> _Instrument:
        if name not in self._instruments:
            self._instruments[name] = _Instrument(kind(f"{PREFIX}{name}", text, labels, registry=self.registry, **more))
        return self._instruments[name]


class _Instrument:
    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._metric.labels(**tags).set(value)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        self._metric.labels(**tags).inc(value)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        self._metric.labels(**tags).observe(value)
