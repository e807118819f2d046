"""A checkpoint: a folder of safetensors by variable path, progress as JSON, and a marker written last.

weights.safetensors     the phase's trainable variables as they are
best.safetensors        the same at the best validation loss
head.safetensors        the converged head (fine-tuning only)
optimizer.safetensors   the optimizer's slots
progress.json           phase, epoch, early stopping, history
complete.json           the sha256 of each file above
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from job.errors import StorageError
from job.train.convergence import EarlyStopping

FORMAT = 1
MARKER = "complete.json"
Tensors = dict[str, np.ndarray]


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
    history: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"head": [], "fine_tune": []})
    """Per phase, one record an epoch: epoch, loss, validation_loss, validation_accuracy, learning_rate, seconds."""


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    weights: Tensors
    best: Tensors
    head: Tensors
    optimizer: Tensors


def write_checkpoint(folder: str | Path, checkpoint: Checkpoint) -> None:
    folder = Path(folder)
    for name in ("weights", "best", "head", "optimizer"):
        tensors = {path: np.asarray(value, order="C") for path, value in getattr(checkpoint, name).items()}
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "progress.json").write_text(json.dumps({"format": FORMAT, **asdict(checkpoint.progress)}))
    digests = {file.name: _sha256(file) for file in sorted(folder.iterdir())}
    (folder / MARKER).write_text(json.dumps(digests))


def read_checkpoint(folder: str | Path, uri: str) -> Checkpoint:
    """Raises StorageError, naming `uri`, where a file is missing or not what was written."""
    folder = Path(folder)
    try:
        digests = json.loads((folder / MARKER).read_text())
        for name, digest in digests.items():
            if _sha256(folder / name) != digest:
                raise StorageError(
                    f"{uri}/{name} is not what was written (sha256): delete this checkpoint and run again."
                )
        progress = json.loads((folder / "progress.json").read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"{uri} is not a complete checkpoint ({error}): delete it and run again.") from error
    if progress.pop("format") != FORMAT:
        raise StorageError(f"{uri} was written by another version of Thaw: start the run again.")
    progress["stopping"] = EarlyStopping(**progress["stopping"])
    tensors = {name: load_file(folder / f"{name}.safetensors") for name in ("weights", "best", "head", "optimizer")}
    return Checkpoint(progress=Progress(**progress), **tensors)


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


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
