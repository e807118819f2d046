"""Pictures arrive in a bucket, and a model follows: a queue tells `thaw watch`, which makes RayJobs of the shipped
overlay, and what they say is run here in KubeRay's stead, with two workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from job.registry.current import Current, read_current
from job.storage import open_store
from support.arrivals import gcs_event, s3_event
from support.images import folder_of
from support.kube import Kube, Object, kubeconfig, kubernetes
from support.kuberay import Operator, operated
from support.networks import own_base
from support.queues import Mailbox, pubsub_server
from support.tools import need

pytestmark = pytest.mark.slow
JOB = """
name: cells
data: {{source: {bucket}/cells/}}
store: {bucket}/thaw/
model: {{backbone: {bucket}/own.keras, image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 8, learning_rate: 3e-2, warm_start: true}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}}
train: {{batch_size: 16, cache: on}}
scaling: {{workers: 2}}
promote: {{min_gain: -0.2}}
"""
PATIENCE = 600.0


class S3:
    """A bucket of moto's, whose arrivals S3 itself tells to a queue of SQS."""

    scheme = "s3"

    def __init__(self, name: str) -> None:
        self.name, self._s3, self._sqs = name, boto3.client("s3"), boto3.client("sqs")
        self._s3.create_bucket(Bucket=name)
        self.queue = self._sqs.create_queue(QueueName=name)["QueueUrl"]
        asked = self._sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        told = {"QueueArn": asked["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        self._s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [told]}
        )

    def put(self, key: str, content: bytes) -> None:
        self._s3.put_object(Bucket=self.name, Key=key, Body=content)

    def tell_again(self, key: str) -> None:
        self._sqs.send_message(QueueUrl=self.queue, MessageBody=s3_event(self.name, key))

    def waiting(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self._sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)


class Gcs:
    """A bucket of fake-gcs-server's, whose arrivals come from Pub/Sub as GCS words them."""

    scheme, queue = "gs", "projects/our-project/subscriptions/arrivals"

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name, self._mailbox, self._store = name, mailbox, open_store(f"gs://{name}/")

    def put(self, key: str, content: bytes) -> None:
        self._store.write(key, content)
        self.tell_again(key)

    def tell_again(self, key: str) -> None:
        self._mailbox.send(*gcs_event(self.name, key))

    def waiting(self) -> int:
        return len(self._mailbox.messages)


class Place:
    """The bucket, the cluster, what runs its RayJobs, and the watcher."""

    def __init__(self, bucket: S3 | Gcs, kube: Kube, operator: Operator, watcher: subprocess.Popen, told: Path) -> None:
        self.bucket, self.kube, self.operator, self._watcher, self._told = bucket, kube, operator, watcher, told
        self.store = open_store(f"{bucket.scheme}://{bucket.name}/thaw/")

    def put(self, pictures: dict[str, bytes]) -> None:
        for key, content in pictures.items():
            self.bucket.put(f"cells/{key}", content)

    def rayjobs(self) -> list[Object]:
        return [item for (kind, _), item in self.kube.objects.items() if kind == "rayjobs"]

    def ends(self, count: int) -> Object:
        """The last of so many RayJobs, once all are complete."""

        def complete() -> bool:
            assert self._watcher.poll() is None, "the watcher has ended"
            states = [rayjob.get("status", {}).get("jobDeploymentStatus") for rayjob in self.rayjobs()]
            assert "Failed" not in states, self.operator.output
            return states == ["Complete"] * count

        until = time.monotonic() + PATIENCE
        while not complete() and time.monotonic() < until:
            with self.kube.changed:
                self.kube.changed.wait(1)
        assert complete(), self._told.read_text()
        return self.rayjobs()[-1]

    def settles(self) -> dict[str, Any]:
        """The last decision, once the queue is empty."""
        until = time.monotonic() + PATIENCE
        while self.bucket.waiting() and time.monotonic() < until:
            time.sleep(0.2)
        lines = [json.loads(line) for line in self._told.read_text().splitlines()]
        assert not self.bucket.waiting(), lines
        return [line for line in lines if line["event"] == "decision"][-1]

    def current(self) -> Current:
        found = read_current(self.store, "cells")
        assert found is not None
        return found


@pytest.fixture
def s3(s3_server: str, s3_bucket: Callable[[], str]) -> S3:
    return S3("arrival")


@pytest.fixture
def gcs(gcs_bucket: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Gcs]:
    mailbox = Mailbox()
    with pubsub_server(mailbox, Gcs.queue) as host:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", host)
        yield Gcs(gcs_bucket(), mailbox)


@pytest.fixture(params=["s3", "gcs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    need("kubectl")
    bucket = request.getfixturevalue(request.param)
    bucket.put("own.keras", own_base(tmp_path / "own.keras"))
    (tmp_path / "job.yaml").write_text(JOB.format(bucket=f"{bucket.scheme}://{bucket.name}"))
    rule = {"job": "job.yaml", "overlay": "local", "quiet_for": 2, "max_wait": 60}
    watch = {"queue": bucket.queue, "visibility": 20, "jobs": [rule], "listen": None}
    (tmp_path / "watch.yaml").write_text(yaml.safe_dump(watch))
    with kubernetes() as (kube, url), operated(kube, tmp_path / "pods") as operator:
        (tmp_path / "kubeconfig").write_text(kubeconfig(url))
        environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig")}
        command = [sys.executable, "-m", "job", "watch", str(tmp_path / "watch.yaml")]
        with (tmp_path / "told").open("w") as told, subprocess.Popen(command, stdout=told, env=environment) as watcher:
            yield Place(bucket, kube, operator, watcher, tmp_path / "told")
            watcher.terminate()
            assert watcher.wait(30) == 143


def test_what_arrives_becomes_the_model_in_use_at_the_price_of_what_is_new(place: Place) -> None:
    pictures = folder_of(220)
    keys = list(pictures)
    place.put({key: pictures[key] for key in keys[:200]})
    first = place.ends(1)
    name = first["metadata"]["name"]
    assert place.current().run == name, "a RayJob is named after its run"
    assert "computing the features of 200 examples; 0 have theirs" in place.operator.output[name]

    place.put({key: pictures[key] for key in keys[200:]})
    second = place.ends(2)
    name = second["metadata"]["name"]
    assert "computing the features of 20 examples; 200 have theirs" in place.operator.output[name]
    assert f"the head starts from that of {first['metadata']['name']}" in place.operator.output[name]
    assert place.current().run == name, place.operator.output[name]
    assert [before.run for before in place.current().previous] == [first["metadata"]["name"]]

    place.bucket.tell_again(f"cells/{keys[0]}")
    assert place.settles()["outcome"] in ("finished", "exists")
    assert len(place.rayjobs()) == 2
