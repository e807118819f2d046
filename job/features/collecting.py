"""New features are collected until they are worth a file in the store: object storage likes large objects."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from job.features.extraction import NewPart
from job.features.store import Featurizer, write_file
from job.storage import Store

FILE_BYTES = 64 * 2**20
"""Bytes of features that become a file."""
MOST_BYTES = 4 * FILE_BYTES
"""Bytes of features that wait at most, of all featurizers together."""
PART_BYTES = 4 * 2**20
"""Bytes of a part of a file, at most but for what one example has: what is read at a time."""
SECONDS = 15.0
"""Seconds after which features become a file, however few they are: about what a killed process loses."""


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
        sizes = {name: _size(waiting) for name, waiting in self._waiting.items()}
        full = []
        for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
            if size >= FILE_BYTES or sum(sizes.values()) >= MOST_BYTES:
                full.append(self._waiting.pop(name))
                del sizes[name]
        return full

    def rest(self) -> list[list[NewPart]]:
        """All features that wait, each list as a file."""
        rest, self._waiting, self._began = list(self._waiting.values()), {}, time.monotonic()
        return rest


def write_collected(store: Store, new: list[NewPart]) -> None:
    """Stores features of one featurizer as a file."""
    rejects = [reject for part in new for reject in part.rejects]
    write_file(store, new[0].featurizer, list(_parts(new, new[0].featurizer)), rejects=rejects)


def _parts(new: list[NewPart], featurizer: Featurizer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Addresses and values of the parts of a file."""
    size = max(1, PART_BYTES // featurizer.bytes_per_example)
    addresses = np.concatenate([part.addresses for part in new])
    pieces = deque(part.values.view(featurizer.storage) for part in new if len(part.values))
    for begin in range(0, len(addresses), size):
        wanted, chosen = min(size, len(addresses) - begin), list[np.ndarray]()
        while wanted:
            piece = pieces.popleft()
            chosen.append(piece[:wanted])
            wanted -= len(chosen[-1])
            if len(chosen[-1]) < len(piece):
                pieces.appendleft(piece[len(chosen[-1]) :])
        yield addresses[begin : begin + size], np.concatenate(chosen)


def _size(parts: list[NewPart]) -> int:
    return sum(part.values.nbytes for part in parts)
