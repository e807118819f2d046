"""Opens queues by their names."""

from __future__ import annotations

from job.arrival.queue import Queue


def open_queue(name: str, visibility: int) -> Queue:
    """The queue of a `name` that `settings.Watch` has accepted. Received messages are hidden from others for
    `visibility` seconds.
    """
    if name.startswith("projects/"):
        from job.arrival.pubsub import PubSubQueue

        return PubSubQueue(name, visibility)
    from job.arrival.sqs import SqsQueue

    return SqsQueue(name, visibility)
