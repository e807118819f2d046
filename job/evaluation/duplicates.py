"""Finds near duplicates across the split by their stored pooled features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from job.data.splits import SPLITS
from job.errors import CorruptFeatures
from job.features.rows import Rows
from job.features.store import Featurizer, Part, read_stored, stored_features
from job.storage import Store

TRAIN = SPLITS.index("train")
MOST = 40_000
"""The most examples that are compared. Where there are more, parts of the feature store are drawn at random."""
WIDTH = 256
"""Longer features are projected to this many random directions; distances stay within a few per cent (Johnson and
Lindenstrauss 1984)."""
NEAR = 0.08
"""A pair counts where its distance is below this share of the median distance of pairs drawn at random (see
docs/plan.md)."""
PAIRS = 4096
"""Random pairs for the median distance."""
BLOCK = 512
NAMED = 5


@dataclass(frozen=True)
class Duplicates:
    compared: tuple[int, int]
    """The numbers of held-out and training examples that were compared."""
    of: tuple[int, int]
    """The numbers of all held-out and training examples."""
    pairs: int
    """The number of held-out examples with a near duplicate in the train split."""
    other_label: int
    """The number of such pairs whose labels differ."""
    nearest: list[tuple[int, int, float]]
    """Rows of a held-out and a training example, and their distance as a share of the typical one; nearest first."""
    note: str
    """What was not compared, and why; empty where all examples were compared."""


def near_duplicates(store: Store, featurizer: Featurizer, rows: Rows) -> Duplicates:
    """Compares held-out examples (validation, test) with training examples."""
    train, held = rows.splits == TRAIN, rows.splits != TRAIN
    of = int(held.sum()), int(train.sum())
    stored = stored_features(store, featurizer)
    part, offset = stored.find(rows.addresses)
    random = np.random.default_rng(0)
    there = (part >= 0) & _parts_to_compare(stored.parts, random)[part]
    chosen = np.flatnonzero(there)
    if not (held[chosen].any() and train[chosen].any()):
        return unknown(of, "no features of both sides are stored so far: it will be known once they are computed")
    try:
        points = _projected(store, featurizer, stored.parts, part=part[chosen], offset=offset[chosen], random=random)
    except CorruptFeatures as error:
        return unknown(of, f"{error} The run computes it again.")
    held_points, train_points = (points[side[chosen]] for side in (held, train))
    nearest, distances = _nearest(held_points, train_points)
    note, missing = "", int((part < 0).sum())
    if len(chosen) < len(part):
        note = f"{len(held_points)} of {of[0]} held-out examples were compared with {len(train_points)} of {of[1]}"
        note += f" training examples; {missing} have no features so far" if missing else " training examples"
    typical = _typical(held_points, train_points, random)
    near = np.flatnonzero(distances <= NEAR * typical)
    near = near[np.argsort(distances[near], kind="stable")]
    rows_held, rows_train = chosen[held[chosen]][near], chosen[train[chosen]][nearest[near]]
    differs = rows.labels[rows_held] != rows.labels[rows_train]
    shares = distances[near] / (typical or 1.0)
    named = list(zip(rows_held.tolist(), rows_train.tolist(), shares.tolist(), strict=True))[:NAMED]
    return Duplicates((len(held_points), len(train_points)), of, len(near), int(differs.sum()), named, note)


def unknown(of: tuple[int, int], note: str) -> Duplicates:
    return Duplicates((0, 0), of, 0, 0, [], note)


def _projected(
    store: Store,
    featurizer: Featurizer,
    parts: list[Part],
    *,
    part: np.ndarray,
    offset: np.ndarray,
    random: np.random.Generator,
) -> np.ndarray:
    """The projected features, float32 [n, at most WIDTH], with zeros for values that are not finite. Raises
    CorruptFeatures.
    """
    width = math.prod(featurizer.shape)
    directions = random.standard_normal((width, WIDTH), np.float32) / np.sqrt(WIDTH) if width > WIDTH else None
    points = np.empty((len(part), min(width, WIDTH)), np.float32)
    for places, values in read_stored(store, featurizer, parts, part=part, offset=offset):
        flat = np.nan_to_num(values.reshape(len(values), -1).astype(np.float32), posinf=0, neginf=0)
        points[places] = flat if directions is None else flat @ directions
    return points


def _parts_to_compare(parts: list[Part], random: np.random.Generator) -> np.ndarray:
    """Which parts to read so that at most MOST examples are compared, bool [parts + 1]; the last stands for no part."""
    chosen = np.zeros(len(parts) + 1, np.bool_)
    order = random.permutation(len(parts))
    counts = np.cumsum([parts[number].rows for number in order]) if len(order) else np.empty(0)
    chosen[order[counts <= MOST]] = True
    return chosen


def _typical(held: np.ndarray, train: np.ndarray, random: np.random.Generator) -> float:
    """The median distance of random pairs of a held-out and a training point."""
    first, second = (points[random.integers(0, len(points), PAIRS)] for points in (held, train))
    return float(np.median(np.linalg.norm(first - second, axis=1)))


def _nearest(held: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training point of each held-out point, int64 [n], and its distance, float32 [n]."""
    squares = np.einsum("ij,ij->i", train, train)
    nearest = np.empty(len(held), np.int64)
    for begin in range(0, len(held), BLOCK):
        block = held[begin : begin + BLOCK]
        nearest[begin : begin + BLOCK] = np.argmin(squares - 2 * block @ train.T, axis=1)
    return nearest, np.linalg.norm(held - train[nearest], axis=1)  # exact, where the expansion above cancels
