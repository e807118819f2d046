"""Pub/Sub: Google's own client against a gRPC server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job.arrival.notifications import read_gcs
from job.arrival.pubsub import PubSubQueue
from job.arrival.queue import Queue
from job.arrival.queues import open_queue
from job.errors import ObjectMissing, StorageError
from support.arrivals import gcs_event
from support.queues import Mailbox, pubsub_server

NAME = "projects/our-project/subscriptions/arrivals"


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def queue(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    with pubsub_server(mailbox, NAME) as host:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        yield open_queue(NAME, 600)


def test_messages_are_pulled_modified_and_acknowledged(mailbox: Mailbox, queue: Queue) -> None:
    assert isinstance(queue, PubSubQueue)
    ids = {mailbox.send(*gcs_event("cells", f"images/{number}", payload="JSON_API_V1")) for number in range(1100)}
    messages = [*queue.receive(5), *queue.receive(5)]
    assert {message.id for message in messages} == ids
    assert read_gcs(messages[0].body, messages[0].attributes, 10_000).uris == ("gs://cells/images/0",)
    assert messages[0].sent > 1_700_000_000
    assert min(sent.hidden_until for sent in mailbox.messages.values()) > mailbox.clock() + 300, (
        "not the subscription's"
    )
    handles = [message.handle for message in messages]
    queue.extend(handles)
    assert mailbox.visible() == 0
    queue.release(handles[:10])
    assert mailbox.visible() == 10
    queue.delete(handles[10:])
    assert sorted(mailbox.messages) == sorted(message.id for message in messages[:10])


def test_nothing_came(queue: Queue) -> None:
    assert queue.receive(1) == []


def test_handles_that_lapsed_are_no_errors(mailbox: Mailbox, queue: Queue) -> None:
    mailbox.send(*gcs_event("cells", "a"))
    (message,) = queue.receive(5)
    queue.delete([message.handle])
    queue.delete([message.handle])
    queue.extend([message.handle])


def test_a_subscription_that_does_not_exist(queue: Queue) -> None:
    with pytest.raises(ObjectMissing, match="subscriptions/other: there is no such subscription"):
        open_queue("projects/our-project/subscriptions/other", 600).receive(1)


def test_what_pubsub_refuses_is_an_error(queue: Queue, mailbox: Mailbox) -> None:
    with pytest.raises(StorageError, match="could not modify the deadlines"):
        open_queue(NAME, 601).extend(["a"])
