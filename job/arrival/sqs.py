"""SQS, with boto3. The region comes from the URL of the queue, endpoint and credentials from the SDK's settings."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from job.arrival.queue import Message
from job.errors import AccessDenied, ObjectMissing, StorageError
from job.wording import sentence

BATCH = 10
"""Messages of a request."""
POLL = 20
"""Seconds that a request may wait for messages."""
THREADS = 8
"""Parallel requests; ten thousand messages take a thousand requests."""
LONGEST = 12 * 3600 - 60.0
"""SQS hides a message for twelve hours in all, counted from its receipt."""
CONFIG = Config(
    retries={"mode": "legacy", "total_max_attempts": 3},  # the loop that calls goes on trying
    connect_timeout=5,
    read_timeout=POLL + 10,
    max_pool_connections=THREADS + 1,
)
MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


class SqsQueue:
    longest = LONGEST

    def __init__(self, url: str, visibility: int) -> None:
        self.uri, self._visibility = url, visibility
        match = re.match(r"https://sqs[.-]([a-z0-9-]+)\.amazonaws\.", url)
        region = match[1] if match else os.environ.get("AWS_REGION") or None
        with self._translated("reach"):
            self._client = boto3.session.Session().client("sqs", region_name=region, config=CONFIG)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sqs")

    def receive(self, seconds: float) -> list[Message]:
        with self._translated("receive from"):
            answer = self._client.receive_message(
                QueueUrl=self.uri,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=min(POLL, math.ceil(seconds)),
                VisibilityTimeout=self._visibility,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
        return [_message(item) for item in answer.get("Messages", ())]

    def extend(self, handles: list[str]) -> None:
        self._hide(handles, self._visibility)

    def release(self, handles: list[str]) -> None:
        self._hide(handles, 0)

    def delete(self, handles: list[str]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
        self._in_batches("delete_message_batch", entries)

    def _hide(self, handles: list[str], seconds: int) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for number, handle in enumerate(handles)
        ]
        self._in_batches("change_message_visibility_batch", entries)

    def _in_batches(self, action: str, entries: list[dict[str, Any]]) -> None:
        """Sends all entries in batches, also after a failure; then raises the first error."""
        batches = [entries[begin : begin + BATCH] for begin in range(0, len(entries), BATCH)]

        def send(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
            answer = getattr(self._client, action)(QueueUrl=self.uri, Entries=batch)
            return [item for item in answer.get("Failed", ()) if not item["SenderFault"]]  # as a handle is that lapsed

        with self._translated(action.replace("_", " ")):
            futures = [self._pool.submit(send, batch) for batch in batches]
            errors = [error for error in (future.exception() for future in futures) if error]
            if errors:
                raise errors[0]
            failed = [item for future in futures for item in future.result()]
        if failed:
            raise StorageError(
                f"{self.uri}: could not {action.replace('_', ' ')}: {len(failed)} of {len(entries)} messages: "
                + sentence(f"{failed[0]['Code']} {failed[0].get('Message', '')}")
            )

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError) as error:
            text = f"{self.uri}: no AWS credentials to {action} it: set AWS_PROFILE, or give the pod a role. ({error})"
            raise AccessDenied(text) from error
        except boto.ClientError as error:
            code, message = (str(error.response.get("Error", {}).get(name, "")) for name in ("Code", "Message"))
            if code in MISSING:
                raise ObjectMissing(f"{self.uri}: there is no such queue: check its name and the region.") from error
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (401, 403):
                raise AccessDenied(
                    f"{self.uri}: not allowed to {action} it ({code}): check the role's policy and the queue's."
                ) from error
            raise StorageError(f"{self.uri}: could not {action} it: {sentence(f'{code} {message}')}") from error
        except (boto.BotoCoreError, OSError) as error:
            raise StorageError(f"{self.uri}: could not {action} it: {sentence(error)}") from error


def _message(item: dict[str, Any]) -> Message:
    sent = int(item.get("Attributes", {}).get("SentTimestamp", "0")) / 1000
    return Message(item["MessageId"], item["ReceiptHandle"], item["Body"].encode(errors="surrogatepass"), {}, sent)
