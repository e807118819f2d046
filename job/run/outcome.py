"""training.json, as the stages after training read it: what the phases of a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EpochRecord:
    """An epoch; as epoch 0, the model that a phase begins with, which has the figures of the validation split alone."""

    epoch: int
    validation_loss: float
    validation_accuracy: float
    loss: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    examples: int | None = None
    digest: str | None = None
    """It proves that each example was seen once."""
    blocks: int | None = None
    """With `unfreeze: auto`, the number of thawed blocks."""


@dataclass(frozen=True)
class BlockVerdict:
    """What `unfreeze: auto` decided about a block."""

    before: float
    """The validation loss without it."""
    after: float
    share: float
    """The share of the resamples in which the loss is lower."""
    blocks: int
    """The number of blocks that are thawed with it."""
    block: str
    pays: bool


@dataclass(frozen=True)
class RangeTest:
    """How the learning rate of a phase was found."""

    learning_rate: float
    rates: list[float]
    losses: list[float | None]
    """Relative to those at rate 0; None where a loss was no finite number."""


@dataclass(frozen=True)
class DescribedBlock:
    """A block of the network, or its head."""

    block: str
    layers: int
    parameters: int
    trainable: int
    """Parameters that trained."""
    cut: bool
    """Whether it holds the cut."""


@dataclass(frozen=True)
class Training:
    kept: str
    """The exported model: `head` or `fine_tune`."""
    converged: bool
    """Whether the head has converged."""
    history: dict[str, list[EpochRecord]]
    """By phase."""
    thawed: list[BlockVerdict] = field(default_factory=list)
    range_tests: dict[str, RangeTest] = field(default_factory=dict)
    """By phase."""
    blocks: list[DescribedBlock] = field(default_factory=list)
    """From the bottom to the top."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Trained parameters, by phase."""

    def trained_epochs(self, phase: str) -> list[EpochRecord]:
        """The epochs of a phase that made steps."""
        return [record for record in self.history.get(phase, []) if record.loss is not None]
