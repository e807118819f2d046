"""What the driver and the groups of training workers tell each other; a Ray actor of the driver's."""

from __future__ import annotations

import time
from typing import Any

from job.training.context import Start

REPEATS = 3
"""Failures in a row, without a new checkpoint between them, after which an attempt gives up."""
PAUSES = (0.0, 1.0, 10.0)
"""Seconds that a group waits before it begins, after so many failures in a row."""


class Ledger:
    def __init__(self) -> None:
        self._over = self._stopping = self._excused = False
        self._causes: list[str] = []
        """Why the group that is under way ends, first error first; those that follow from another worker's end come
        last."""
        self._consequences: list[str] = []
        self._in_a_row, self._failures, self._from = 0, 0, ""
        self._noticed: float | None = None
        self._asked, self._heard = time.monotonic(), False

    def begin(self, checkpoint: str) -> Start:
        """A group is about to go on from this checkpoint ("" for the start)."""
        failed, cause = bool(self._causes or self._consequences), self.cause()
        noticed = self._noticed if failed else None
        self._causes, self._consequences, self._noticed = [], [], None
        if checkpoint != self._from or self._excused:
            self._in_a_row = 0
        counts = failed and not self._excused
        self._in_a_row, self._failures = self._in_a_row + counts, self._failures + counts
        self._from, self._excused = checkpoint, False
        if self._in_a_row >= REPEATS:
            where = f"checkpoint {checkpoint}" if checkpoint else "the start"
            return Start(refused=f"Training failed {REPEATS} times in a row after {where}; the last time: {cause}")
        return Start(pause=PAUSES[self._in_a_row], noticed=noticed)

    def failed(self, cause: str, follows: bool = False) -> None:
        """A worker's error, in a line; `follows`: from the end of another worker."""
        self._noticed = self._noticed or time.time()
        (self._consequences if follows else self._causes).append(cause)

    def cause(self) -> str:
        """The first error of the group."""
        return next(iter([*self._causes, *self._consequences]), "")

    def preempted(self) -> None:
        """The end of the group that is under way will be nobody's fault."""
        self._excused = True

    def is_broken(self) -> bool:
        """Whether the group has lost a worker: another one will begin."""
        return self._excused or bool(self._causes or self._consequences)

    def failures(self) -> int:
        """How many groups have failed."""
        return self._failures

    def stop(self) -> None:
        self._stopping = True

    def is_stopping(self) -> bool:
        """Asked every second by the workers that train."""
        self._asked, self._heard = time.monotonic(), self._stopping
        return self._stopping

    def was_heard(self) -> bool:
        """Whether workers know that they are to stop."""
        return self._heard

    def is_idle(self, seconds: float) -> bool:
        """Whether no worker has trained for so long."""
        return time.monotonic() - self._asked > seconds

    def stopped(self) -> None:
        """Workers have ended, once a checkpoint was kept: for good where they were to stop, else to begin elsewhere."""
        self._over |= self._stopping

    def end(self) -> None:
        """No group has anything to do any more."""
        self._over = True

    def is_over(self) -> bool:
        return self._over


def make_ledger() -> Any:
    import ray

    return ray.remote(**beside_driver())(Ledger).remote()


def beside_driver() -> dict[str, Any]:
    """Options of an actor that must live as long as the driver: it is on the same node, whatever else is lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}
