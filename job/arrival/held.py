"""The held messages: received, and neither deleted nor released. They are only in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from job.arrival.coalesce import Coalescer
from job.arrival.queue import Message


@dataclass
class _Entry:
    handle: str
    sent: float
    """The time of sending, in seconds since the epoch."""
    hidden_until: float
    give_up: float
    """The time from which on the queue can't hide the message any longer."""
    jobs: set[str]
    """The jobs for which it is not covered yet."""


class Held:
    """The held messages, shared by the threads that receive, extend, and decide."""

    def __init__(
        self, jobs: Mapping[str, Coalescer], visibility: float, longest: float, *, clock: Callable[[], float]
    ) -> None:
        self._jobs, self._visibility, self._longest, self._clock = jobs, visibility, longest, clock
        self._entries: dict[str, _Entry] = {}
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._entries)

    def oldest(self) -> float | None:
        """The time when the oldest held message was sent; None where none is held."""
        with self._changed:
            return min((entry.sent for entry in self._entries.values()), default=None)

    def add(self, message: Message, jobs: Iterable[str]) -> bool:
        """Adds a message; returns whether it is new. One that was held already lapsed, and has a new handle now."""
        now = self._clock()
        with self._changed:
            entry = self._entries.get(message.id)
            if entry is not None:
                entry.handle, entry.hidden_until, entry.give_up = message.handle, *self._until(now)
                return False
            self._entries[message.id] = _Entry(message.handle, message.sent, *self._until(now), set(jobs))
            for job in self._entries[message.id].jobs:
                self._jobs[job].add(message.id, message.sent, now)
            self._changed.notify_all()
            return True

    def wait_until_due(self, job: str, seconds: float) -> bool:
        """Waits until the job is due, for at most this many seconds, or until `wake`; returns whether it is due."""
        with self._changed:
            due = self._due_in(job)
            if due > 0:
                self._changed.wait(min(seconds, due))
            return self._due_in(job) <= 0

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def begin(self, job: str) -> float | None:
        """Begins a round. Returns when its first message was sent; None where all were dropped."""
        with self._changed:
            return self._jobs[job].begin()

    def covered(self, job: str) -> list[str]:
        """Ends the round. Returns the handles of messages that no other job waits for; they are to be deleted."""
        with self._changed:
            handles = []
            for id in self._jobs[job].covered():
                entry = self._entries[id]
                entry.jobs.discard(job)
                if not entry.jobs:
                    handles.append(self._entries.pop(id).handle)
            self._changed.notify_all()
            return handles

    def again(self, job: str) -> None:
        """Ends the round without having covered its messages."""
        with self._changed:
            self._jobs[job].again()

    def to_extend(self) -> dict[str, str]:
        """The handles, by id, of messages that have been hidden for half of their time."""
        until = self._clock() + self._visibility / 2
        with self._changed:
            return {id: entry.handle for id, entry in self._entries.items() if entry.hidden_until < until}

    def extended(self, ids: Iterable[str], since: float) -> None:
        with self._changed:
            for id in ids:
                if entry := self._entries.get(id):
                    entry.hidden_until = since + self._visibility

    def drop_lapsed(self) -> int:
        """Drops messages that are no longer hidden, since others may have received them. Returns their number."""
        now = self._clock()
        return len(self._drop(lambda entry: entry.hidden_until <= now))

    def drop_old(self) -> list[str]:
        """Drops messages that the queue can't hide much longer. Returns their handles, which are to be released."""
        soon = self._clock() + self._visibility
        return self._drop(lambda entry: entry.give_up <= soon)

    def drop_all(self) -> list[str]:
        return self._drop(lambda entry: True)

    def _drop(self, chosen: Callable[[_Entry], bool]) -> list[str]:
        with self._changed:
            ids = [id for id, entry in self._entries.items() if chosen(entry)]
            for id in ids:
                for job in self._entries[id].jobs:
                    self._jobs[job].forget(id)
            return [self._entries.pop(id).handle for id in ids]

    def _until(self, now: float) -> tuple[float, float]:
        return now + self._visibility, now + self._longest

    def _due_in(self, job: str) -> float:
        due = self._jobs[job].due_at()
        return float("inf") if due is None else due - self._clock()
