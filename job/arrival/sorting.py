"""Sorts messages: those to hold for jobs, those to delete at once, and those to leave to the dead-letter queue."""

from __future__ import annotations

from job.arrival.log import Log
from job.arrival.notifications import Notification, Refused, read_gcs, read_s3
from job.arrival.queue import Message
from job.arrival.settings import Watch
from job.arrival.targets import Target, known_buckets
from job.arrival.watch_metrics import WatchMetrics

REMEMBERED = 10_000
"""The most refused messages that are remembered. Each is logged once, although it comes again until it is a dead
letter.
"""


class Sorter:
    def __init__(self, watch: Watch, targets: dict[str, Target], metrics: WatchMetrics, *, log: Log) -> None:
        self._watch, self._targets, self._metrics, self._log = watch, targets, metrics, log
        self._buckets = known_buckets(targets.values())
        self._refused: dict[str, None] = {}
        self._warned: set[str] = set()

    def jobs(self, message: Message) -> set[str] | None:
        """The names of the jobs that a message concerns. With an empty set, it is to be deleted; None means that it is
        refused, and to be left alone.
        """
        try:
            notification = self._read(message)
            strange = sorted(notification.buckets - self._buckets)
            if strange:
                raise Refused(f"{strange[0]} is no bucket of a job")
        except Refused as refusal:
            self._refuse(message, str(refusal))
            return None
        if notification.unchecked:
            self._warn(notification.unchecked)
        jobs = {name for name, target in self._targets.items() if any(map(target.concerns, notification.uris))}
        if not jobs:
            self._metrics.messages.labels("test" if notification.test else "ignored").inc()
        return jobs

    def _read(self, message: Message) -> Notification:
        limit = self._watch.max_message
        if self._watch.scheme == "gs":
            return read_gcs(message.body, message.attributes, limit)
        return read_s3(message.body, limit, self._watch.owners)

    def _warn(self, field: str) -> None:
        """Once for each kind of events."""
        kind = field.partition(" ")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            text = f"account: nothing in it compares with events that tell their bucket's owner as {field}"
            self._log(
                "warning", text=f"{text}: they are taken, whoever that is. Add yours, so that it is a list of both."
            )

    def _refuse(self, message: Message, reason: str) -> None:
        if message.id in self._refused:
            return
        self._refused[message.id] = None
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self._metrics.messages.labels("refused").inc()
        self._log("refused", message=message.id, reason=reason)
