"""The few verbs of a queue that delivers at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """As it was received this time: what comes again has the same id, and another handle."""

    id: str
    handle: str
    body: bytes
    attributes: Mapping[str, str]
    sent: float
    """Seconds since the epoch."""


class Queue(Protocol):
    """Errors are StorageError (it may pass), ObjectMissing (there is no such queue) and AccessDenied.

    It can be used by several threads. Handles that the queue does not know any more are no errors: their messages come
    again, or are gone.
    """

    uri: str
    longest: float
    """Seconds after its receipt for which a message can be kept from others, however often that is extended."""

    def receive(self, seconds: float) -> list[Message]:
        """Waits for the first ones, for that long; each is hidden from others for the queue's `visibility`."""

    def extend(self, handles: list[str]) -> None:
        """Hides them for `visibility` from now on."""

    def release(self, handles: list[str]) -> None:
        """Others may have them now."""

    def delete(self, handles: list[str]) -> None: ...
