"""What a phase trains, and among whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from job.config import Augment, Optimization
from job.features.cache import FeatureCache
from job.run.events import Emit, Noted, StepsMade
from job.training.checkpoint import Checkpoint
from job.training.control import Control
from job.training.optimization import PhaseOptimizer
from job.training.step import Forward


class Call(NamedTuple):
    """The latest steps, which were one call of the network."""

    steps: int
    examples: int
    """Examples of this worker; padding counts."""
    seconds: float
    waits: np.ndarray
    """float64 [2]: of the seconds, those for batches and for the sum over the workers."""
    loss: float
    """The loss of the last step."""


@dataclass(frozen=True)
class WorkerContext:
    """This worker among the others."""

    rank: int
    world_size: int
    strategy: tf.distribute.Strategy
    control: Control
    save: Callable[[Checkpoint, bool], None]
    """Keeps a checkpoint, meanwhile or (True) before it returns. Every worker calls it equally often."""
    emit: Emit
    """Sends an event to the driver, from rank 0 only."""
    examples: Callable[[np.ndarray], str]
    """Names some examples (positions in the data set) for a person, and where they are written down."""
    measured: Callable[[StepsMade, Call], None] = lambda steps, call: None
    """Is told of the latest steps."""

    def note(self, text: str) -> None:
        self.emit(Noted(text))


@dataclass(frozen=True)
class PhaseTask:
    """What a phase trains, on what, and how."""

    name: str
    settings: Optimization
    batch_size: int
    seed: int
    inputs: list[FeatureCache]
    """What `forward` takes, by view."""
    forward: Forward
    optimizer: PhaseOptimizer
    """The optimizer of the variables that the phase trains."""
    trained: bool = False
    """Whether the model that the phase begins with was trained before: it counts as the best so far."""
    views: int = 1
    augment: Augment | None = None
    """Changes images on their way to the network; None where stored views are read, or nothing is changed."""
    jit_compile: bool = False
    blocks: int | None = None
    """The number of thawed blocks, where `unfreeze: auto` says it."""

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The trainable ones, by path."""
        return self.optimizer.variables

    @property
    def thawed(self) -> dict[str, keras.Variable]:
        """The trained variables of the base."""
        return {path: variable for path, variable in self.variables.items() if not path.startswith("head_")}
