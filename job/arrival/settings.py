"""The watch file: which queue tells of arrivals, and which jobs they start."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from job.config.base import Bytes, Section
from job.config.jobfile import checked, read_mapping

SQS = re.compile(r"https?://[^/\s]+/\d{12}/[A-Za-z0-9_-]{1,80}")
PUBSUB = re.compile(r"projects/[a-z0-9:.-]{4,60}/subscriptions/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
Owner = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WatchedJob(Section):
    """A job, and when its arrivals start a run."""

    job: str
    """The job file, or a folder of them as `thaw run` takes it; relative to the watch file."""
    overlay: str
    """local, aws, gcp; or, relative to the watch file, a folder with a kustomization or a file that kustomize built.
    All but the file need kubectl, which the image does not have."""
    image: str | None = None
    namespace: str | None = None
    context: str | None = None
    quiet_for: Seconds = 60
    """Seconds without another arrival after which a snapshot is taken."""
    max_wait: Seconds = 900
    """Seconds after the first arrival at which it is taken although they go on."""
    min_new: int = Field(1, ge=0)
    """New or changed examples, since the current model's snapshot, below which no run is started; 0: a deletion alone
    starts one, too."""
    concurrency: Literal["queue", "replace"] = "queue"
    """While a run of this job is active, a snapshot of other data waits for its end, or cancels it."""

    @model_validator(mode="after")
    def _waits_ascend(self) -> WatchedJob:
        if self.max_wait < self.quiet_for:
            raise ValueError(f"max_wait ({self.max_wait:g}) must not be below quiet_for ({self.quiet_for:g})")
        return self


class Listen(Section):
    """Where /metrics, /healthz and /readyz are answered."""

    host: str = "127.0.0.1"
    port: int = Field(9090, ge=0, le=65535)


class Watch(Section):
    """What `thaw watch` does."""

    queue: str
    """https://sqs.REGION.amazonaws.com/ACCOUNT/NAME or projects/PROJECT/subscriptions/NAME; THAW_QUEUE by default."""
    account: Owner | Annotated[list[Owner], Field(min_length=1)] | None = None
    """Who owns the buckets: events of others' are refused. An account's number (12 digits) is compared with events of
    EventBridge, any other value with the owner's id in S3's own (`ownerIdentity.principalId`). Where both come: a list
    of both."""
    jobs: list[WatchedJob] = Field(min_length=1)
    listen: Listen | None = Listen()
    """`null`: nowhere."""
    visibility: int = Field(300, ge=1, le=600)
    """Seconds for which a message is hidden from others; extended while it is held, and what is left of it passes
    before a message comes again that a killed process held."""
    max_held: int = Field(20_000, ge=10, le=100_000)
    """Messages held at once."""
    max_message: Bytes = 256 * 1024
    """Larger messages are refused unread."""

    @field_validator("queue")
    @classmethod
    def _is_a_queue(cls, queue: str) -> str:
        if not SQS.fullmatch(queue) and not PUBSUB.fullmatch(queue):
            raise ValueError(
                "a queue is https://sqs.REGION.amazonaws.com/ACCOUNT/NAME or projects/PROJECT/subscriptions/NAME, "
                f"got {queue!r}"
            )
        return queue

    @model_validator(mode="after")
    def _accounts_are_of_s3(self) -> Watch:
        if self.account is not None and self.scheme != "s3":
            raise ValueError("account: notifications of GCS do not tell the bucket's owner: leave it out")
        return self

    @property
    def owners(self) -> list[str]:
        return [self.account] if isinstance(self.account, str) else self.account or []

    @property
    def scheme(self) -> str:
        """The scheme of the URIs in this queue's messages."""
        return "gs" if self.queue.startswith("projects/") else "s3"


def load_watch(path: str | Path) -> Watch:
    """Reads the watch file. Without `queue`, it takes that of THAW_QUEUE, which an overlay sets. Raises JobError."""
    file = Path(path)
    document = read_mapping(file, "watch file", "queue:, jobs:")
    if queue := os.environ.get("THAW_QUEUE"):
        document.setdefault("queue", queue)
    return checked(Watch, document, str(file))
