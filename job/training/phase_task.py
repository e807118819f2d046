"""What a phase trains, and among whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from job.config import Augment, Optimization
from job.features.cache import FeatureCache
from job.run.events import Emit, StepsMade
from job.training.checkpoint import Checkpoint
from job.training.control import Control
from job.training.step import Forward


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
    measured: Callable[[StepsMade, int, int, float, np.ndarray, float], None] = lambda *_: None
    """Is told of the latest steps: see Meter.steps."""


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
    variables: dict[str, keras.Variable]
    """The trainable ones, by path."""
    trained: bool = False
    """Whether the model that the phase begins with was trained before: it counts as the best so far."""
    rates: dict[str, float] = field(default_factory=dict)
    """Factors for the learning rates of some of the variables, by path."""
    after: int = 0
    """Epochs of the same name that were made before it, with less of the network thawed."""
    views: int = 1
    augment: Augment | None = None
    """Changes images on their way to the network; None where stored views are read, or nothing is changed."""
    jit_compile: bool = False

    @property
    def thawed(self) -> dict[str, keras.Variable]:
        """Those of `variables` that are not the head's."""
        return {path: variable for path, variable in self.variables.items() if not path.startswith("head_")}
