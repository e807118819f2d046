"""A checkpoint: one safetensors file, which is there as a whole or not at all.

weights/<path>     the phase's trainable variables as they are
best/<path>        the same at the best validation loss
head/<path>        the converged head (fine-tuning only)
before/<path>      the trainable variables before the last block was thawed (`unfreeze: auto` only)
optimizer/<path>   the optimizer's slots
losses             of the steps made in the epoch that is under way, float32 [steps]
metadata           format; progress (JSON): phase, epoch, step, early stopping, history
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from job.errors import CorruptCheckpoint, StorageError
from job.storage import file_sha256
from job.training.convergence import EarlyStopping

FORMAT = 3
ROLES = ("weights", "best", "head", "before", "optimizer")
Tensors = dict[str, np.ndarray]
History = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Thawing:
    """Where `unfreeze: auto` stands: one block after another is thawed."""

    blocks: int
    """That are thawed, from the top."""
    after: int = 0
    """Epochs of fine-tuning that were made before the last of them was."""
    decided: tuple[dict[str, Any], ...] = ()
    """What came of each block before it: {blocks, block, epochs, before, after, share, pays}."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    phase: str
    """`head` or `fine_tune`"""
    epoch: int
    """Epochs of the phase that are complete."""
    finished: bool
    """The phase is over."""
    stopping: EarlyStopping
    history: History = field(default_factory=lambda: {"head": [], "fine_tune": []})
    """Per phase, one record an epoch: epoch, loss, validation_loss, validation_accuracy, learning_rate, seconds."""
    step: int = 0
    """Steps made in the epoch that is under way."""
    seen: tuple[int, int] = (0, 0)
    """What those steps have read, over all workers: the sum of the ids (int64), and how many were out of place."""
    seconds: float = 0.0
    """Spent on those steps."""
    thawing: Thawing | None = None
    range_tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By phase, where `learning_rate: auto` has chosen: learning_rate, rates, losses."""

    @property
    def earlier_epochs(self) -> int:
        """Epochs of the phases before this one."""
        return sum(len(records) for phase, records in self.history.items() if phase != self.phase)


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    weights: Tensors
    best: Tensors
    head: Tensors
    optimizer: Tensors
    before: Tensors = field(default_factory=dict)
    losses: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """Losses of the steps made in the epoch that is under way, float32 [step]."""


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> str:
    """Writes the file and returns its sha256."""
    tensors = {
        f"{role}/{name}": np.asarray(value, order="C")
        for role in ROLES
        for name, value in getattr(checkpoint, role).items()
    }
    progress = json.dumps(asdict(checkpoint.progress))
    metadata = {"format": str(FORMAT), "progress": progress}
    save_file({**tensors, "losses": np.asarray(checkpoint.losses, np.float32)}, path, metadata)
    return file_sha256(path)


def read_checkpoint(path: str | Path, uri: str, sha256: str) -> Checkpoint:
    """Raises CorruptCheckpoint, naming `uri`, where the file is not what was written."""
    if file_sha256(path) != sha256:
        raise CorruptCheckpoint(f"{uri} is not what was written (sha256).")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise StorageError(f"{uri} was written by another version of Thaw: start the run with --new.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{uri} is no checkpoint ({error}).") from error
    progress = json.loads(metadata["progress"])
    progress |= {"stopping": EarlyStopping(**progress["stopping"]), "seen": tuple(progress["seen"])}
    if progress["thawing"]:
        thawing = progress["thawing"]
        progress["thawing"] = Thawing(**{**thawing, "decided": tuple(thawing["decided"])})
    parts: dict[str, Tensors] = {role: {} for role in ROLES}
    losses = tensors.pop("losses")
    for name, value in tensors.items():
        role, _, path_of_variable = name.partition("/")
        parts[role][path_of_variable] = value
    return Checkpoint(Progress(**progress), losses=losses, **parts)


def restore(variables: dict[str, Any], tensors: Tensors, what: str, log: Callable[[str], None]) -> None:
    """Assigns by path. What starts fresh and what no longer exists is logged; another shape starts fresh."""
    for path, variable in variables.items():
        if path in tensors and tuple(tensors[path].shape) == tuple(variable.shape):
            variable.assign(tensors[path])
        else:
            log(f"{what}: {path} starts fresh ({'another shape' if path in tensors else 'not in the checkpoint'})")
    for path in sorted(tensors.keys() - variables.keys()):
        log(f"{what}: {path} is in the checkpoint but no longer trained")


def values(variables: dict[str, Any]) -> Tensors:
    """The variables' values on the host."""
    return {path: np.array(variable.numpy()) for path, variable in variables.items()}
