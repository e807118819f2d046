"""A short way to read, beside the long one of a library."""

from __future__ import annotations

from collections.abc import Callable

HOPELESS = 32
"""Objects in a row for which the short way did not do, after which a store does without it."""


class Shortcut:
    def __init__(self) -> None:
        self.refused = 0
        """Objects in a row that the long way alone could read."""

    def read(self, shortly: Callable[[], bytes | None], otherwise: Callable[[], bytes]) -> bytes:
        """What `shortly` returns; or, where that is None, what `otherwise` returns."""
        content = shortly() if self.refused < HOPELESS else None
        if content is not None:
            self.refused = 0
            return content
        content = otherwise()
        self.refused += 1
        return content
