"""What is given to Prometheus, written down instead."""

from __future__ import annotations

from typing import NamedTuple


class Measured(NamedTuple):
    verb: str
    """set, inc or observe."""
    name: str
    value: float
    tags: dict[str, str]


class Instrument:
    """Has the verb of its kind alone, as Ray's and Prometheus's own have, and takes these labels alone."""

    def __init__(self, verb: str, name: str, labels: tuple[str, ...], found: list[Measured]) -> None:
        def record(value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(labels), name
            assert verb != "inc" or value > 0, f"{name}: Ray counts nothing but what is more"
            found.append(Measured(verb, name, value, tags))

        setattr(self, verb, record)


class FakeMetrics:
    def __init__(self) -> None:
        self.found: list[Measured] = []

    @property
    def values(self) -> dict[str, float]:
        """The latest of each."""
        return {one.name: one.value for one in self.found}

    def gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument:
        return self._made("set", name, text, labels)

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Instrument:
        return self._made("inc", name, text, labels)

    def histogram(self, name: str, text: str, labels: tuple[str, ...], bounds: list[float]) -> Instrument:
        assert bounds == sorted(bounds)
        return self._made("observe", name, text, labels)

    def _made(self, verb: str, name: str, text: str, labels: tuple[str, ...]) -> Instrument:
        assert text, name
        return Instrument(verb, name, labels, self.found)
