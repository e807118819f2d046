"""Thousands of events and a watcher that is killed again and again: one RayJob for each state of the data.

`thaw watch` is a real process; S3, the queue and the Kubernetes API are servers on loopback. At each deletion of a
message it is noted whether there was a RayJob whose snapshot has the object that it tells of.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from job.arrival.notifications import Refused, read_s3
from support.arrivals import gcs_event, s3_event
from support.kube import kubernetes
from support.queues import Mailbox, Sent, pubsub_server, sqs_server
from support.sites import Site, until

EVENTS, KILLS = 10_000, 20
WAVES = 3
"""States of the data: each is added while the run of the one before is active."""
OBJECTS = 80
"""That each of them adds."""
LONGEST_LIFE = 15.0
"""Seconds after which a watcher is killed that has not made as many requests as it was to make."""
MALFORMED = ["hello", "{", "[" * 5000, "{}", '{"Records": [7]}', s3_event("others", "images/a"), s3_event("storm", "")]


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def site(tmp_path: Path, s3_bucket: Callable[[], str], mailbox: Mailbox) -> Iterator[Site]:
    source = f"s3://{s3_bucket()}/images/"
    with kubernetes() as (kube, url), sqs_server(mailbox) as sqs:
        yield Site(tmp_path, source, f"{sqs}/111122223333/arrivals", kube, url, AWS_ENDPOINT_URL_SQS=sqs)


def event_of(site: Site, number: int) -> str:
    bucket, _, prefix = site.source.uri.removeprefix("s3://").partition("/")
    return s3_event(bucket, prefix + site.key(number))


def storm(site: Site, mailbox: Mailbox, wave: int, events: int, chance: random.Random) -> set[str]:
    """Sends events, half of them twice, of objects of this and of earlier waves; ids of what is malformed."""
    numbers = [chance.randrange(OBJECTS * (wave + 1)) for _ in range(events // 2)]
    malformed = [(chance.choice(MALFORMED), True) for _ in range(max(1, events // 100))]
    bodies = [(event_of(site, number), False) for number in numbers]
    mixed = [*bodies, *bodies[: events - len(bodies) - len(malformed)], *malformed]
    chance.shuffle(mixed)
    return {id for body, bad in mixed for id in [mailbox.send(body)] if bad}


@contextmanager
def killed_again_and_again(site: Site, mailbox: Mailbox, kills: int, chance: random.Random) -> Iterator[list[int]]:
    """A watcher after another, until the block ends; the requests that the first `kills` of them made, each."""
    over, lives = threading.Event(), list[int]()

    def asked() -> int:
        return mailbox.requests + len(site.kube.requests)

    def live() -> None:
        while not over.is_set():
            before, started, process = asked(), time.monotonic(), site.start()
            most = chance.randint(1, 60) if chance.random() < 0.5 else chance.randint(60, 600)
            if len(lives) < kills:
                while asked() - before < most and time.monotonic() - started < LONGEST_LIFE:
                    time.sleep(0.002)
                lives.append(asked() - before)
            else:
                over.wait()
            process.send_signal(signal.SIGKILL)
            site.read(process)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield lives
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_a_storm_is_one_rayjob_for_each_state_of_the_data(site: Site, mailbox: Mailbox) -> None:
    chance, malformed, expected, early = random.Random(EVENTS), set[str](), list[str](), list[str]()

    def deleted(sent: Sent) -> None:
        try:
            uris = set(read_s3(sent.body, 256 * 1024).uris)
        except Refused:
            uris = {"malformed"}
        if uris - site.covered():
            early.append(sent.id)

    mailbox.on_delete = deleted
    with killed_again_and_again(site, mailbox, KILLS, random.Random(KILLS)) as lives:
        for wave in range(WAVES):
            site.put(range(OBJECTS * wave, OBJECTS * (wave + 1)))
            expected.append(site.run())
            malformed |= storm(site, mailbox, wave, EVENTS // WAVES, chance)
            site.end_runs()
            until(lambda wave=wave: len(site.rayjobs()) > wave, f"no RayJob of wave {wave}")
        until(lambda: len(lives) == KILLS, "it was not killed as often")
        site.end_runs()
        until(lambda: mailbox.messages.keys() == malformed, "messages that nobody deleted")
    assert site.rayjobs() == expected
    assert early == []
    assert malformed.isdisjoint(mailbox.deleted)
    for name in expected:
        (owner,) = site.kube.get("configmaps", name)["metadata"]["ownerReferences"]
        assert owner["uid"] == site.kube.get("rayjobs", name)["metadata"]["uid"]
    assert [line for line in site.told if line["event"] == "error"] == []


@pytest.mark.slow
def test_sigterm_lets_go_of_what_is_held(site: Site, mailbox: Mailbox) -> None:
    site.settle(visibility=600, quiet_for=600, max_wait=600)
    site.put(range(OBJECTS))
    storm(site, mailbox, 0, 40, random.Random(1))
    process = site.start()
    until(lambda: len(mailbox.receives) == 40, "not all messages were received")
    assert mailbox.visible() == 0
    process.terminate()
    errors = site.read(process)
    assert process.returncode == 143, errors
    assert errors.startswith("thaw: Stopped by SIGTERM")
    assert mailbox.visible() == 39, "all but the malformed one; none went to the request that waited meanwhile"
    assert mailbox.deleted == []
    assert (site.told[-1]["event"], site.told[-1]["released"]) == ("end", 39)


@pytest.mark.slow
def test_what_is_put_into_s3_arrives_in_the_cluster(tmp_path: Path, s3_bucket: Callable[[], str]) -> None:
    """S3's own notifications to SQS, as moto sends them: the test event first."""
    sqs, bucket = boto3.client("sqs"), s3_bucket()
    url = sqs.create_queue(QueueName=bucket)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    wanted = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
    configuration = {"QueueConfigurations": wanted}
    boto3.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    with kubernetes() as (kube, kube_url):
        site = Site(tmp_path, f"s3://{bucket}/images/", url, kube, kube_url)
        for numbers in (range(OBJECTS), range(OBJECTS, OBJECTS + 3), range(OBJECTS, OBJECTS + 3)):
            site.put(numbers)
            works_through(site)
    assert created(site) == 2
    assert site.decisions()[-1] == "exists", "the last three were written again, as they were"
    assert len(site.rayjobs()) == 2
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    left: dict[str, Any] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    assert set(left.values()) == {"0"}


@pytest.mark.slow
def test_what_is_put_into_gcs_arrives_in_the_cluster(
    tmp_path: Path, gcs_bucket: Callable[[], str], mailbox: Mailbox
) -> None:
    bucket, name = gcs_bucket(), "projects/our-project/subscriptions/arrivals"
    with kubernetes() as (kube, url), pubsub_server(mailbox, name) as host:
        site = Site(tmp_path, f"gs://{bucket}/images/", name, kube, url, PUBSUB_EMULATOR_HOST=host)
        for numbers in (range(OBJECTS), range(OBJECTS, OBJECTS + 3)):
            site.put(numbers)
            for number in numbers:
                mailbox.send(*gcs_event(bucket, f"images/{site.key(number)}", payload="JSON_API_V1"))
            works_through(site)
    assert created(site) == 2
    assert mailbox.messages == {}


def created(site: Site) -> int:
    """How many RayJobs were decided on. Where the events of one state come in two parts, the second part finds its
    RayJob there."""
    decisions = site.decisions()
    assert set(decisions) <= {"created", "exists"}
    return decisions.count("created")


def works_through(site: Site) -> None:
    process = site.start("--until-empty")
    errors = site.read(process)
    assert process.returncode == 0, errors
    site.end_runs()
