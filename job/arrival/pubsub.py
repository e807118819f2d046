"""Pub/Sub, by unary pull: the number of held messages is bounded by the requests, which a stream would not allow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core import exceptions as google
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1

from job.arrival.queue import Message
from job.errors import AccessDenied, ObjectMissing, StorageError
from job.wording import sentence

BATCH = 1000
"""Messages of a request. A request may have 512 KiB, and each handle has about 200 bytes."""
POLL = 20.0
"""Seconds that a request may wait for messages."""
ANSWER = 30.0
"""Seconds within which any other request must be answered."""


class PubSubQueue:
    longest = float("inf")

    def __init__(self, subscription: str, visibility: int) -> None:
        self.uri, self._visibility = subscription, visibility
        try:
            self._client = pubsub_v1.SubscriberClient()
        except GoogleAuthError as error:
            raise AccessDenied(
                f"{subscription}: no Google credentials: give the pod a service account, or set "
                f"GOOGLE_APPLICATION_CREDENTIALS. ({error})"
            ) from error

    def receive(self, seconds: float) -> list[Message]:
        request = {"subscription": self.uri, "max_messages": BATCH}
        with self._translated("pull from"):
            try:
                answer = self._client.pull(request=request, retry=None, timeout=max(1.0, min(POLL, seconds)))
            except google.DeadlineExceeded:  # nothing came
                return []
        messages = [
            Message(
                item.message.message_id,
                item.ack_id,
                item.message.data,
                dict(item.message.attributes),
                item.message.publish_time.timestamp(),
            )
            for item in answer.received_messages
        ]
        if messages:  # they come with the deadline of the subscription, which can be 10 s
            self.extend([message.handle for message in messages])
        return messages

    def extend(self, handles: list[str]) -> None:
        self._modify(handles, self._visibility)

    def release(self, handles: list[str]) -> None:
        self._modify(handles, 0)

    def delete(self, handles: list[str]) -> None:
        with self._translated("acknowledge"):
            for batch in _batches(handles):
                self._client.acknowledge(request={"subscription": self.uri, "ack_ids": batch}, timeout=ANSWER)

    def _modify(self, handles: list[str], seconds: int) -> None:
        with self._translated("modify the deadlines of"):
            for batch in _batches(handles):
                request = {"subscription": self.uri, "ack_ids": batch, "ack_deadline_seconds": seconds}
                self._client.modify_ack_deadline(request=request, timeout=ANSWER)

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except google.NotFound as error:
            raise ObjectMissing(f"{self.uri}: there is no such subscription: check its name and project.") from error
        except (google.Forbidden, google.Unauthorized, GoogleAuthError) as error:
            raise AccessDenied(
                f"{self.uri}: not allowed to {action} it: the service account needs roles/pubsub.subscriber. ({error})"
            ) from error
        except (google.GoogleAPICallError, google.RetryError) as error:
            raise StorageError(f"{self.uri}: could not {action} it: {sentence(error)}") from error


def _batches(handles: list[str]) -> list[list[str]]:
    return [handles[begin : begin + BATCH] for begin in range(0, len(handles), BATCH)]
