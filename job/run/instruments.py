"""What a run is measured with: the seam between those who measure and what Prometheus reads."""

from __future__ import annotations

from typing import Protocol


class Instrument(Protocol):
    """A gauge, a counter or a histogram: it has the one of these verbs that it is for."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...
    def inc(self, value: float, tags: dict[str, str]) -> None: ...
    def observe(self, value: float, tags: dict[str, str]) -> None: ...


class WorkerMetrics(Protocol):
    """Makes what Prometheus reads. The same name gives the same instrument."""

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument: ...
    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument: ...
    def histogram(self, name: str, text: str, labels: tuple[str, ...], *, bounds: list[float]) -> Instrument: ...
