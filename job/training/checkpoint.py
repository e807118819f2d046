"""A checkpoint: one safetensors file, which is there as a whole or not at all.

weights/<path>         the phase's trainable variables as they are
best/<path>            the same at the best validation loss
optimizer/<path>       the optimizer's slots
losses                 of the steps made in the epoch that is under way, float32 [steps]
caller/<name>/<path>   the caller's tensors
metadata               format; progress (JSON): phase, epoch, step, early stopping, history; caller (JSON): its document
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from job.errors import BrokenDocument, CorruptCheckpoint
from job.run.outcome import EpochRecord, RangeTest
from job.storage import file_sha256
from job.storage.documents import decoded, encoded
from job.training.convergence import EarlyStopping

FORMAT = 4
ROLES = ("weights", "best", "optimizer")
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Progress:
    """Where a run stands."""

    phase: str
    """`head` or `fine_tune`"""
    epoch: int
    """The last epoch that is complete: phases of one name number their epochs in one sequence, from 1."""
    finished: bool
    """The phase is over."""
    stopping: EarlyStopping
    history: dict[str, list[EpochRecord]] = field(default_factory=lambda: {"head": [], "fine_tune": []})
    """By phase."""
    epochs_before: int = 0
    """The last epoch that was complete when the phase began."""
    step: int = 0
    """Steps made in the epoch that is under way."""
    seen: tuple[int, int] = (0, 0)
    """What those steps have read, over all workers: the sum of the ids (int64), and how many were out of place."""
    seconds: float = 0.0
    """Spent on those steps."""
    range_tests: dict[str, RangeTest] = field(default_factory=dict)
    """By phase, where `learning_rate: auto` has chosen."""

    @property
    def epochs_of_others(self) -> int:
        """Epochs of the phases of other names."""
        return sum(len(records) for phase, records in self.history.items() if phase != self.phase)


@dataclass(frozen=True)
class CallerState:
    """What those who run one phase after another want to find again in a checkpoint.

    A phase carries it from its first checkpoint to its last one, and looks at none of it.
    """

    document: dict[str, Any] = field(default_factory=dict)
    """Anything that JSON holds."""
    tensors: dict[str, Tensors] = field(default_factory=dict)
    """By name."""

    def adding(self, document: dict[str, Any], tensors: dict[str, Tensors]) -> CallerState:
        return CallerState({**self.document, **document}, {**self.tensors, **tensors})


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    weights: Tensors
    best: Tensors
    optimizer: Tensors
    caller: CallerState = field(default_factory=CallerState)
    losses: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """Losses of the steps made in the epoch that is under way, float32 [step]."""


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> str:
    """Writes the file and returns its sha256."""
    groups: dict[str, Tensors] = {role: getattr(checkpoint, role) for role in ROLES}
    groups |= {f"caller/{name}": tensors for name, tensors in checkpoint.caller.tensors.items()}
    tensors = {
        f"{group}/{variable}": np.asarray(value, order="C")
        for group, tensors in groups.items()
        for variable, value in tensors.items()
    }
    metadata = {
        "format": str(FORMAT),
        "progress": encoded(checkpoint.progress).decode(),
        "caller": json.dumps(checkpoint.caller.document),
    }
    save_file({**tensors, "losses": np.asarray(checkpoint.losses, np.float32)}, path, metadata)
    return file_sha256(path)


def read_checkpoint(path: str | Path, uri: str, sha256: str) -> Checkpoint:
    """Raises CorruptCheckpoint, naming `uri`, where the file is not what was written, or nothing that is read here."""
    if file_sha256(path) != sha256:
        raise CorruptCheckpoint(f"{uri} is not what was written (sha256).")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != str(FORMAT):
                raise CorruptCheckpoint(f"{uri} is of another version of Thaw: this one can't go on from it.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise CorruptCheckpoint(f"{uri} is no checkpoint ({error}).") from error
    try:
        progress = decoded(metadata["progress"].encode(), Progress, uri)
    except BrokenDocument as error:
        raise CorruptCheckpoint(str(error)) from error
    losses = tensors.pop("losses")
    roles: dict[str, Tensors] = {role: {} for role in ROLES}
    of_caller: dict[str, Tensors] = {}
    for name, value in tensors.items():
        role, _, variable = name.partition("/")
        if role == "caller":
            group, _, variable = variable.partition("/")
            of_caller.setdefault(group, {})[variable] = value
        else:
            roles[role][variable] = value
    caller = CallerState(json.loads(metadata["caller"]), of_caller)
    return Checkpoint(progress, **roles, caller=caller, losses=losses)


def restore(variables: dict[str, Any], tensors: Tensors, *, what: str, log: Callable[[str], None]) -> None:
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
