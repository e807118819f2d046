"""What a worker trains on: the snapshot's accepted examples beside their stored features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from job.data.features import Features, local_features
from job.data.snapshot import Snapshot, read_snapshot
from job.data.splits import SPLITS
from job.errors import JobError, nearest
from job.storage import Store

ClassWeights = Literal["auto"] | dict[str, float] | None


@dataclass(frozen=True)
class Dataset:
    """Examples in the order of their keys, less the rejects."""

    keys: np.ndarray
    """object [n]"""
    labels: np.ndarray
    """Index into the classes, int32 [n]."""
    weights: np.ndarray
    """Weight of each example in the loss, float32 [n]."""
    splits: dict[str, np.ndarray]
    """Positions of each split's examples, int64."""
    features: Features


def load_dataset(store: Store, snapshot: Snapshot, features_id: str, class_weights: ClassWeights) -> Dataset:
    features = local_features(store, features_id)
    table = read_snapshot(store, snapshot, ["key", "label", "split"]).take(features.rows)
    index = {label: i for i, label in enumerate(snapshot.classes)}
    labels = np.array([index[label] for label in table["label"].to_pylist()], np.int32)
    sides = np.array(table["split"].to_pylist())
    splits = {split: np.flatnonzero(sides == split) for split in SPLITS}
    per_class = class_weight_vector(class_weights, snapshot.classes, labels[splits["train"]])
    return Dataset(np.array(table["key"].to_pylist(), object), labels, per_class[labels], splits, features)


def check_class_weights(class_weights: ClassWeights, classes: list[str]) -> None:
    """Raises JobError for a class that the data has not."""
    named = class_weights if isinstance(class_weights, dict) else {}
    for label in named:
        if label not in classes:
            near = nearest(label, classes)
            raise JobError(f"train.class_weights: no class {label!r}{near}; the classes are {', '.join(classes)}.")


def class_weight_vector(class_weights: ClassWeights, classes: list[str], labels: np.ndarray) -> np.ndarray:
    """Weight of each class, float32 [classes]; `auto` is n / (classes * count), whose mean over examples is 1.

    (The "balanced" heuristic of King and Zeng, 2001, "Logistic regression in rare events data".)
    """
    if class_weights is None:
        return np.ones(len(classes), np.float32)
    if class_weights == "auto":
        counts = np.maximum(np.bincount(labels, minlength=len(classes)), 1)
        return (len(labels) / (len(classes) * counts)).astype(np.float32)
    return np.array([class_weights.get(label, 1.0) for label in classes], np.float32)
