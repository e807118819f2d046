"""Coalesces many arrivals into one snapshot: decides when the messages of a job are due. No I/O, no clock of its
own.
"""

from __future__ import annotations


class Coalescer:
    """Collects the arrivals of one job. Times are seconds of any monotonic clock.

    Messages wait. `begin` makes a round of all that wait; the snapshot of the round is taken after that, so it covers
    them. Messages that are added meanwhile wait for the next round.
    """

    def __init__(self, quiet_for: float, max_wait: float) -> None:
        self._quiet_for, self._max_wait = quiet_for, max_wait
        self._waiting: dict[str, float] = {}
        self._round: dict[str, float] = {}
        self._first = self._last = 0.0
        self._round_first = 0.0

    def add(self, id: str, sent: float, now: float) -> None:
        """Adds a message that was received `now`, and sent at `sent` by the clock of the events."""
        if not self._waiting:
            self._first = now
        self._waiting[id], self._last = sent, now

    def due_at(self) -> float | None:
        """The time when a round is to begin; None while nothing waits, or during a round."""
        if self._round or not self._waiting:
            return None
        return min(self._last + self._quiet_for, self._first + self._max_wait)

    def begin(self) -> float | None:
        """Begins a round. Returns when its first message was sent; None where no message waits."""
        self._round, self._waiting, self._round_first = self._waiting, {}, self._first
        return min(self._round.values(), default=None)

    def covered(self) -> list[str]:
        """Ends the round; returns the ids of its messages."""
        ids, self._round = list(self._round), {}
        return ids

    def again(self) -> None:
        """Ends the round without result: its messages wait for the next one, with those that came meanwhile."""
        self._waiting, self._round, self._first = {**self._round, **self._waiting}, {}, self._round_first

    def forget(self, id: str) -> None:
        """Removes a message that is no longer held; the queue will deliver it again."""
        self._waiting.pop(id, None)
        self._round.pop(id, None)
