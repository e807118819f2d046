"""`train.class_weights`: how much an example of each class counts."""

from __future__ import annotations

import unicodedata
from typing import Literal

import numpy as np

from job.errors import JobError, nearest
from job.wording import first_of

ClassWeights = Literal["auto"] | dict[str, float] | None
SHOWN = 20
"""Classes that an error names."""


def check_class_weights(class_weights: ClassWeights, classes: list[str]) -> None:
    """Raises JobError where a class of `train.class_weights` is not in the data."""
    _weights_by_class(class_weights if isinstance(class_weights, dict) else {}, classes)


def _weights_by_class(given: dict[str, float], classes: list[str]) -> dict[str, float]:
    """The given weights under the class names of the data, whose Unicode form may differ from that of the job file.

    Raises JobError for an unknown class, and for one that is given twice.
    """
    formed = {unicodedata.normalize("NFC", label): label for label in classes}
    weights: dict[str, float] = {}
    for name, weight in given.items():
        label = name if name in classes else formed.get(unicodedata.normalize("NFC", name.strip()))
        if label is None:
            known = first_of(classes, SHOWN)
            raise JobError(f"train.class_weights: no class {name!r}{nearest(name, classes)}; the classes are {known}.")
        if label in weights:
            raise JobError(f"train.class_weights: {label!r} is there twice, in two spellings: keep one.")
        weights[label] = weight
    return weights


def class_weight_vector(class_weights: ClassWeights, classes: list[str], labels: np.ndarray) -> np.ndarray:
    """Weight of each class, float32 [classes]; `auto` is n / (classes * count), whose mean over examples is 1.

    (The "balanced" heuristic of King and Zeng, 2001, "Logistic regression in rare events data".)
    """
    if class_weights is None:
        return np.ones(len(classes), np.float32)
    if class_weights == "auto":
        counts = np.maximum(np.bincount(labels, minlength=len(classes)), 1)
        return (len(labels) / (len(classes) * counts)).astype(np.float32)
    weights = _weights_by_class(class_weights, classes)
    return np.array([weights.get(label, 1.0) for label in classes], np.float32)
