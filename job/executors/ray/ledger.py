"""The ledger: a Ray actor through which the driver and the groups of training workers exchange their state."""

from __future__ import annotations

import time
from typing import Any

from job.training.context import Start

REPEATS = 3
"""Failures in a row, without a new checkpoint between them, after which an attempt gives up."""
PAUSES = (0.0, 1.0, 10.0)
"""Seconds that a group waits before it begins, by the number of failures in a row."""


class Ledger:
    def __init__(self) -> None:
        self._over = self._stopping = self._excused = False
        self._causes: list[str] = []
        """The errors of the current group, in order; errors caused by the end of another worker are consequences."""
        self._consequences: list[str] = []
        self._in_a_row, self._failures, self._from = 0, 0, ""
        self._noticed: float | None = None
        self._asked, self._stop_known = time.monotonic(), False

    def begin(self, checkpoint: str) -> Start:
        """Registers a new group that will continue from this checkpoint ("" for the start)."""
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
        """Registers a worker's error, in one line. `follows` says that the end of another worker caused it."""
        self._noticed = self._noticed or time.time()
        (self._consequences if follows else self._causes).append(cause)

    def cause(self) -> str:
        """The first error of the group."""
        return next(iter([*self._causes, *self._consequences]), "")

    def preempted(self) -> None:
        """Registers a preemption: the end of the current group will not count as a failure."""
        self._excused = True

    def is_broken(self) -> bool:
        """Whether the group has lost a worker, so that another group will begin."""
        return self._excused or bool(self._causes or self._consequences)

    def failures(self) -> int:
        """The number of groups that have failed."""
        return self._failures

    def stop(self) -> None:
        self._stopping = True

    def is_stopping(self) -> bool:
        """Whether the workers are to stop; workers that train ask every second."""
        self._asked, self._stop_known = time.monotonic(), self._stopping
        return self._stopping

    def knows_stop(self) -> bool:
        """Whether a worker has read that the workers are to stop."""
        return self._stop_known

    def is_idle(self, seconds: float) -> bool:
        """Whether no worker has trained for this many seconds."""
        return time.monotonic() - self._asked > seconds

    def stopped(self) -> None:
        """Registers that workers ended after keeping a checkpoint: for good where they were to stop, else to
        restart.
        """
        self._over |= self._stopping

    def end(self) -> None:
        """Registers that training is over: further groups have nothing to do."""
        self._over = True

    def is_over(self) -> bool:
        return self._over


def make_ledger() -> Any:
    import ray

    return ray.remote(**beside_driver())(Ledger).remote()


def beside_driver() -> dict[str, Any]:
    """Options of an actor that lives as long as the driver: it runs on the driver's node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}
