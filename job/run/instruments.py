"""Instruments of metrics: the seam between the code that measures and the exporter that Prometheus reads."""

from __future__ import annotations

from typing import Protocol


class Instrument(Protocol):
    """A gauge (`set`), a counter (`inc`) or a histogram (`observe`). Each supports only its own method."""

    def set(self, value: float, tags: dict[str, str]) -> None: ...
    def inc(self, value: float, tags: dict[str, str]) -> None: ...
    def observe(self, value: float, tags: dict[str, str]) -> None: ...


class WorkerMetrics(Protocol):
    """Creates the instruments that Prometheus reads. The same name returns the same instrument."""

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument: ...
    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument: ...
    def histogram(self, name: str, text: str, labels: tuple[str, ...], *, bounds: list[float]) -> Instrument: ...
