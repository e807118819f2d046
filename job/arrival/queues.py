"""The queues that there are, by their names."""

from __future__ import annotations

from job.arrival.queue import Queue


def open_queue(name: str, visibility: int) -> Queue:
    """`name`: a queue's name that `settings.Watch` has accepted. `visibility`: seconds for which what was received is
    hidden from others.
    """
    if name.startswith("projects/"):
        from job.arrival.pubsub import PubSubQueue

        return PubSubQueue(name, visibility)
    from job.arrival.sqs import SqsQueue

    return SqsQueue(name, visibility)
