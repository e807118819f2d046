"""Metrics for Prometheus through Ray's own exporter, which adds `ray_` to the names."""

from __future__ import annotations

from typing import Any

from ray.util import metrics


class RayMetrics:
    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Any:
        return metrics.Gauge(name, text, labels)

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Any:
        return metrics.Counter(name, text, labels)

    def histogram(self, name: str, text: str, labels: tuple[str, ...], *, bounds: list[float]) -> Any:
        return metrics.Histogram(name, text, bounds, labels)
