"""SQS, as moto's server answers for it: S3's own notifications, through SNS, and a dead-letter queue."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from job.arrival.notifications import Notification, read_s3
from job.arrival.queue import Message
from job.arrival.queues import open_queue
from job.arrival.sqs import SqsQueue
from job.errors import AccessDenied, ObjectMissing, StorageError
from support.servers import free_port

LIMIT = 256 * 1024


@pytest.fixture
def client(s3_server: str) -> Any:
    return boto3.client("sqs")


@pytest.fixture
def url(client: Any) -> str:
    return str(client.create_queue(QueueName=f"arrivals-{uuid.uuid4().hex[:8]}")["QueueUrl"])


@pytest.fixture
def queue(url: str) -> SqsQueue:
    return SqsQueue(url, visibility=60)


def count(client: Any, url: str) -> tuple[int, int]:
    """Visible, and hidden."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    visible, hidden = (int(found[name]) for name in names)
    return visible, hidden


def receive_all(queue: SqsQueue) -> list[Message]:
    found: list[Message] = []
    while some := queue.receive(0):
        found += some
    return found


def arn(client: Any, url: str) -> str:
    return str(client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])


def test_messages_are_received_extended_released_and_deleted_in_batches(client: Any, url: str, queue: SqsQueue) -> None:
    for number in range(23):
        client.send_message(QueueUrl=url, MessageBody=f"body {number} ü")
    messages = receive_all(queue)
    assert sorted(message.body.decode() for message in messages) == sorted(f"body {n} ü" for n in range(23))
    assert all(message.sent > 1_700_000_000 for message in messages)
    assert count(client, url) == (0, 23)
    handles = [message.handle for message in messages]
    queue.extend(handles)
    queue.release(handles[:12])
    assert count(client, url) == (12, 11)
    assert {message.id for message in receive_all(queue)} == {message.id for message in messages[:12]}
    queue.delete(handles[12:])
    assert count(client, url) == (0, 12)


def test_handles_that_lapsed_are_no_errors(client: Any, url: str, queue: SqsQueue) -> None:
    client.send_message(QueueUrl=url, MessageBody="a")
    (message,) = queue.receive(0)
    queue.delete([message.handle])
    queue.delete([message.handle])
    queue.extend([message.handle])
    queue.release([message.handle])
    assert count(client, url) == (0, 0)


@pytest.fixture
def notifying(s3_bucket: Callable[[], str]) -> str:
    return s3_bucket()


def read(messages: list[Message]) -> list[Notification]:
    return [read_s3(message.body, LIMIT) for message in messages]


def test_s3_notifies_sqs(client: Any, url: str, queue: SqsQueue, notifying: str) -> None:
    s3 = boto3.client("s3")
    configured = [{"QueueArn": arn(client, url), "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
    s3.put_bucket_notification_configuration(
        Bucket=notifying, NotificationConfiguration={"QueueConfigurations": configured}
    )
    s3.put_object(Bucket=notifying, Key="cells/a b+c ü.png", Body=b"1")
    told = read(receive_all(queue))
    assert [one for one in told if one.test] == [Notification(test=True)]
    uri = f"s3://{notifying}/cells/a b+c ü.png"
    assert [one.uris for one in told if not one.test] == [(uri,)]


def test_sns_hands_on_what_s3_tells(client: Any, url: str, queue: SqsQueue) -> None:
    from support.arrivals import s3_event

    sns = boto3.client("sns")
    topic = sns.create_topic(Name=f"arrivals-{uuid.uuid4().hex[:8]}")["TopicArn"]
    for raw in ("false", "true"):
        subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(client, url))["SubscriptionArn"]
        sns.set_subscription_attributes(
            SubscriptionArn=subscription, AttributeName="RawMessageDelivery", AttributeValue=raw
        )
        sns.publish(TopicArn=topic, Message=s3_event("cells", "images/a b.png"))
        (message,) = receive_all(queue)
        assert ("TopicArn" in json.loads(message.body)) == (raw == "false")
        assert read([message])[0].uris == ("s3://cells/images/a b.png",)
        sns.unsubscribe(SubscriptionArn=subscription)
        queue.delete([message.handle])


def test_what_is_left_alone_becomes_a_dead_letter(client: Any, url: str) -> None:
    dead = client.create_queue(QueueName=f"dead-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(client, dead), "maxReceiveCount": 2})
    client.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    client.send_message(QueueUrl=url, MessageBody="poison")
    queue = SqsQueue(url, visibility=60)
    for _ in range(2):
        (message,) = queue.receive(0)
        queue.release([message.handle])  # as time would
    assert queue.receive(0) == []
    assert count(client, dead)[0] == 1


def test_a_queue_that_does_not_exist(s3_server: str) -> None:
    with pytest.raises(ObjectMissing, match=f"{s3_server}/123456789012/none: there is no such queue"):
        SqsQueue(f"{s3_server}/123456789012/none", 60).receive(0)


def test_the_region_is_that_of_the_url() -> None:
    queue = open_queue("https://sqs.ap-southeast-2.amazonaws.com/123456789012/arrivals", 60)
    assert isinstance(queue, SqsQueue)
    assert queue._client.meta.region_name == "ap-southeast-2"


@pytest.fixture
def stubbed() -> Iterator[tuple[SqsQueue, Stubber]]:
    queue = SqsQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/arrivals", 60)
    with Stubber(queue._client) as stub:
        yield queue, stub


def test_who_may_not_receive_is_told_what_to_look_at(stubbed: tuple[SqsQueue, Stubber]) -> None:
    queue, stub = stubbed
    stub.add_client_error("receive_message", "AccessDenied", http_status_code=403)
    with pytest.raises(AccessDenied, match=r"not allowed to receive from it .AccessDenied.: check the role's policy"):
        queue.receive(0)


def test_entries_that_failed_inside_sqs_are_an_error(stubbed: tuple[SqsQueue, Stubber]) -> None:
    queue, stub = stubbed
    failed = {"Id": "0", "SenderFault": False, "Code": "InternalError", "Message": "later"}
    stub.add_response("delete_message_batch", {"Successful": [], "Failed": [failed]})
    with pytest.raises(StorageError, match="1 of 1 messages: InternalError later"):
        queue.delete(["a"])


def test_a_queue_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError, match="could not receive from it"):
        SqsQueue(f"http://127.0.0.1:{port}/123456789012/none", 60).receive(0)
