"""New features are collected until they are worth a file in the store: object storage likes large objects."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

from job.features.extraction import NewPart
from job.features.store import Featurizer, write_file
from job.storage import Store

FILE_BYTES = 64 * 2**20
"""Bytes of features that become a file."""
PART_BYTES = 4 * 2**20
"""Bytes of a part of a file, about: what is read at a time."""
SECONDS = 15.0
"""Seconds after which features become a file, however few they are: what a killed process loses, at most."""


class Collector:
    """Features of one or more featurizers on their way to the store."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[NewPart]] = {}
        self._began = time.monotonic()

    def add(self, parts: Iterable[NewPart]) -> list[list[NewPart]]:
        """Adds new features. Returns those that are to be stored now, each list as a file."""
        for part in parts:
            self._waiting.setdefault(part.featurizer.id, []).append(part)
        if time.monotonic() - self._began >= SECONDS:
            return self.rest()
        full = [name for name, waiting in self._waiting.items() if _size(waiting) >= FILE_BYTES]
        return [self._waiting.pop(name) for name in full]

    def rest(self) -> list[list[NewPart]]:
        """All features that wait, each list as a file."""
        rest, self._waiting, self._began = list(self._waiting.values()), {}, time.monotonic()
        return rest


def write_collected(store: Store, new: list[NewPart]) -> None:
    """Stores features of one featurizer as a file."""
    rejects = [reject for part in new for reject in part.rejects]
    write_file(store, new[0].featurizer, list(_parts(new, new[0].featurizer)), rejects=rejects)


def _parts(new: list[NewPart], featurizer: Featurizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Addresses and values of the parts of a file, of PART_BYTES each or a little more."""
    some: list[NewPart] = []
    for part in new:
        some += [part] if len(part.addresses) else []
        if _size(some) >= PART_BYTES or (part is new[-1] and some):
            addresses, values = [part.addresses for part in some], [part.values for part in some]
            yield np.concatenate(addresses), np.concatenate(values).view(featurizer.storage)
            some = []


def _size(parts: list[NewPart]) -> int:
    return sum(part.values.nbytes for part in parts)
