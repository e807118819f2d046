"""The protocol of a queue that delivers at least once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """A received message. When it is delivered again, it has the same id and another handle."""

    id: str
    handle: str
    body: bytes
    attributes: Mapping[str, str]
    sent: float
    """The time of sending, in seconds since the epoch."""


class Queue(Protocol):
    """A queue. Its errors are StorageError (possibly temporary), ObjectMissing (no such queue) and AccessDenied.

    Several threads may use it. Handles that the queue no longer knows are no errors: their messages are delivered
    again, or gone.
    """

    uri: str
    longest: float
    """The most seconds after its receipt for which a message can be hidden, however often that is extended."""

    def receive(self, seconds: float) -> list[Message]:
        """Waits for messages, for at most this many seconds. Each is hidden from others for the queue's
        `visibility`.
        """

    def extend(self, handles: list[str]) -> None:
        """Hides the messages for `visibility` from now on."""

    def release(self, handles: list[str]) -> None:
        """Makes the messages visible to others at once."""

    def delete(self, handles: list[str]) -> None: ...
