"""What the workers agree on while they train: when to save, when to stop, and how many steps they make in one call.

Each worker's votes travel with its gradients and come back as their sum, so that all act at the same step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from job.config import CheckpointPolicy

CHUNK_SECONDS = 1.0
"""How long the steps of one call take: workers hear this late that they are to stop."""
VOTES = 3
FIRST_STEPS = 4
MOST_STEPS = 256


@dataclass(frozen=True)
class StepDecision:
    save: bool
    """As soon as it suits."""
    stop: bool
    """Save at this step, and end."""


class Control:
    def __init__(
        self,
        policy: CheckpointPolicy,
        rank: int = 0,
        stop: threading.Event | None = None,
        *,
        is_busy: Callable[[], bool] = lambda: False,
        beat: Callable[[], None] = lambda: None,
        ready: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stop`: whether this worker wants all to stop. `is_busy`: whether a checkpoint is being uploaded. `beat` is
        called after every call of the network, and `ready` when the first steps are made.
        """
        self._policy, self._rank, self._stop = policy, rank, stop or threading.Event()
        self._is_busy, self.beat, self._ready, self._clock = is_busy, beat, ready, clock
        self._steps, self._wanted = FIRST_STEPS, FIRST_STEPS
        self._is_ready = self._due = False
        self._saved = self._clock()

    def steps(self, position: int, left: int) -> int:
        """Steps of the next call: at most `left`, and up to the next of the steps after which a checkpoint is due.

        `position` counts the steps of the phase that are made.
        """
        every = self._policy.every_steps
        return min(self._steps, left, every - position % every if every else left)

    def wants_stop(self) -> np.ndarray:
        """Whether this worker does, int64 [1]."""
        return np.array([self._stop.is_set()], np.int64)

    def votes(self, position: int) -> np.ndarray:
        """This worker's, float32 [VOTES], for the end of a call that leads to `position`: to stop; and the first
        worker's are a checkpoint where one is due and none is being uploaded, and how many steps the next call makes.
        """
        due = wants_stop = 0
        if self._rank == 0:
            every, minutes = self._policy.every_steps, self._policy.every_minutes
            self._due |= every is not None and position % every == 0
            self._due |= minutes is not None and self._clock() - self._saved > 60 * minutes
            due, wants_stop = self._due and not self._is_busy(), self._wanted
        return np.array([*self.wants_stop(), due, wants_stop], np.float32)

    def decision(self, votes: np.ndarray, steps: int, seconds: float) -> StepDecision:
        """What follows from the sum of the votes, `seconds` after the last `steps` were begun."""
        self.beat()
        if not self._is_ready:
            self._is_ready = True
            self._ready()
        self._steps = max(1, int(votes[2]))
        self._wanted = int(np.clip(CHUNK_SECONDS * steps / max(seconds, 1e-6), 1, min(2 * self._steps, MOST_STEPS)))
        return StepDecision(save=bool(votes[:2].any()), stop=bool(votes[0]))

    def saved(self) -> None:
        """A checkpoint was just taken."""
        self._saved, self._due = self._clock(), False
