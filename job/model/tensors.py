"""Reads and assigns a network's variables as arrays by path, also from the file of an EfficientNet-Lite."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from job.errors import JobError
from job.model import efficientnet_lite
from job.model.network import variables_by_path
from job.model.refresh import refresh
from job.model.torch_file import read_torch_file

Tensors = dict[str, np.ndarray]


def assign(base: keras.Model, tensors: Tensors, name: str) -> None:
    """Assigns every variable by path, and refreshes the layers. Raises JobError where a path is missing or left over,
    or a shape differs.
    """
    variables = variables_by_path(base)
    for path in sorted(variables.keys() ^ tensors.keys()):
        lacks = "lack" if path in variables else "have, and the backbone has not,"
        raise JobError(f"model.weights: {name} {lacks} {path}: they belong to another network.")
    for path, variable in variables.items():
        if tuple(variable.shape) != tensors[path].shape:
            shapes = f"{tensors[path].shape}, and the backbone wants {tuple(variable.shape)}"
            raise JobError(f"model.weights: {name}: {path} has shape {shapes}.")
        variable.assign(tensors[path])
    refresh(base)


def values(base: keras.Model) -> Tensors:
    return {path: np.asarray(variable.numpy(), order="C") for path, variable in variables_by_path(base).items()}


def lite_tensors(file: Any, name: str, backbone: str, *, base: keras.Model) -> Tensors:
    """The variables of an EfficientNet-Lite from its PyTorch file, transposed to Keras's layout."""
    source = read_torch_file(file, name)
    tensors = {}
    for path, variable in variables_by_path(base).items():
        torch_name, kind = efficientnet_lite.torch_names(path)
        if torch_name not in source:
            raise JobError(f"{name} has no tensor {torch_name}: it is not {backbone}.")
        axes = {"conv": (2, 3, 1, 0), "depthwise": (2, 3, 0, 1), "vector": (0,)}[kind]
        tensors[path] = np.ascontiguousarray(source[torch_name].transpose(axes), np.float32)
        if tensors[path].shape != tuple(variable.shape):
            raise JobError(f"{name}: {torch_name} has shape {source[torch_name].shape}: it is not {backbone}.")
    return tensors
