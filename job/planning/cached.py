"""What the feature store has of what a run needs: from the markers of its parts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from job.data.splits import SPLITS
from job.features.rows import Rows
from job.features.store import ADDRESS, Featurizer, address_bytes, stored_features
from job.storage import Store

TRAIN = SPLITS.index("train")
Counts = dict[str, dict[str, int]]
"""Examples per split and class."""


@dataclass(frozen=True)
class Cached:
    """What is stored of one tensor, all its views together."""

    tap: str
    views: int
    dtype: str
    shape: tuple[int, ...]
    bytes_per_example: int
    needed: int
    """Examples, each as often as it has views."""
    stored: int
    """The examples that are stored, each as often as it has views."""
    rejected: int = 0
    """The examples that are known not to decode."""

    @property
    def missing(self) -> int:
        return self.needed - self.stored - self.rejected


@dataclass(frozen=True)
class MissingFeatures:
    """What is left to compute."""

    tensors: list[Cached]
    examples: int
    """The number of examples that lack anything: each is decoded once."""
    passes: int
    """Passes through the frozen network: one for each example in each view."""
    rejects: dict[str, int]
    """Examples that are known not to decode, per reason."""

    @property
    def to_write(self) -> int:
        """Bytes."""
        return sum(tensor.missing * tensor.bytes_per_example for tensor in self.tensors)

    def scaled(self, factor: float) -> MissingFeatures:
        """What is missing where there are so many times the examples."""
        if factor == 1:
            return self
        names = ("needed", "stored", "rejected")
        tensors = [replace(t, **{name: round(getattr(t, name) * factor) for name in names}) for t in self.tensors]
        return MissingFeatures(tensors, round(self.examples * factor), round(self.passes * factor), self.rejects)


def look_up(
    store: Store, featurizers: Sequence[Featurizer], rows: Callable[[], Rows], *, counts: Counts
) -> MissingFeatures:
    """`rows` is asked for where anything at all is stored; one tensor's addresses (24 bytes a stored example) are then
    held beside them at a time.
    """
    if not any(_is_begun(store, featurizer) for featurizer in featurizers):
        return _nothing(featurizers, counts)
    addresses, train = (listed_rows := rows()).addresses, listed_rows.splits == TRAIN
    lacking, passes = np.zeros(len(addresses), np.bool_), dict[int, np.ndarray]()
    tensors, rejects = dict[str, Cached](), dict[bytes, str]()
    for featurizer in featurizers:
        there = stored_features(store, featurizer)
        rejects |= there.rejects
        needed = train if featurizer.view else np.ones_like(train)
        stored = needed & (there.find(addresses)[0] >= 0)
        rejected = needed & ~stored & np.isin(addresses, np.array(list(rejects), ADDRESS))
        missing = needed & ~stored & ~rejected
        lacking |= missing
        if not featurizer.is_input:
            passes[featurizer.view] = passes.get(featurizer.view, np.zeros_like(missing)) | missing
        _add(tensors, featurizer, int(needed.sum()), stored=int(stored.sum()), rejected=int(rejected.sum()))
    gone = addresses[np.isin(addresses, np.array(list(rejects), ADDRESS))]
    reasons = Counter(rejects[address] for address in address_bytes(gone))
    total = sum(int(missing.sum()) for missing in passes.values())
    return MissingFeatures([*tensors.values()], int(lacking.sum()), total, dict(reasons.most_common()))


def _nothing(featurizers: Sequence[Featurizer], counts: Counts) -> MissingFeatures:
    train, everyone = sum(counts["train"].values()), sum(sum(split.values()) for split in counts.values())
    tensors, passes = dict[str, Cached](), dict[int, int]()
    for featurizer in featurizers:
        needed = train if featurizer.view else everyone
        _add(tensors, featurizer, needed, stored=0, rejected=0)
        if not featurizer.is_input:
            passes[featurizer.view] = needed
    return MissingFeatures([*tensors.values()], everyone, sum(passes.values()), {})


def _add(tensors: dict[str, Cached], featurizer: Featurizer, needed: int, *, stored: int, rejected: int) -> None:
    """Counts another view of its tensor."""
    of = featurizer.tap, featurizer.dtype, featurizer.shape, featurizer.bytes_per_example
    before = tensors.get(of[0], Cached(of[0], 0, *of[1:], 0, 0))
    sums = before.needed + needed, before.stored + stored, before.rejected + rejected
    tensors[of[0]] = Cached(of[0], before.views + 1, *of[1:], *sums)


def _is_begun(store: Store, featurizer: Featurizer) -> bool:
    return next(store.list(f"features/{featurizer.id}/"), None) is not None
