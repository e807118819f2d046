"""Samples examples of a run, decoded: from the feature store where they are there, else from their source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from job.config import Job
from job.data.forms import form_of
from job.data.snapshot import Snapshot, read_snapshot
from job.data.source import open_source
from job.data.sources.packed import open_shard, records_of, split_key
from job.data.sources.table import object_reader
from job.errors import CorruptFeatures, DataError, ObjectMissing
from job.export.formats.subject import Samples
from job.features.cache_plan import input_featurizer
from job.features.dataset import load_dataset
from job.features.store import ADDRESS, address_of, read_stored, stored_features
from job.storage import Store, arrow_errors

READERS = 8
"""Objects that are read at a time."""
TRIED = 4
"""The number of examples that are tried for each one that is needed, before giving up."""


class Sampler:
    """Takes examples in the order of the data set. It is that of a hash of the keys, so that its beginning is a random
    sample, and always the same one.
    """

    def __init__(self, job: Job, store: Store, run: str, *, snapshot: Snapshot) -> None:
        self._job, self._store, self._source = job, store, open_source(job)
        self._data = load_dataset(store, run, snapshot.classes, class_weights=None)
        table = read_snapshot(store, snapshot, ["key", "version"]).take(self._data.rows)
        self._keys, self._versions = table["key"].to_pylist(), table["version"].to_pylist()
        self._featurizer = input_featurizer(job)
        self._stored = stored_features(store, self._featurizer)
        self._read = form_of(job).read

    def take(self, splits: Iterable[str], count: int, least: int) -> Samples:
        """The first `count` examples of these splits, one split after another, that can still be read.

        Raises DataError where these are fewer than `least`, or than all examples where the run has fewer than that.
        """
        positions = np.concatenate([self._data.splits[split] for split in splits])[: TRIED * count]
        inputs: dict[int, np.ndarray] = {}
        for start in range(0, len(positions), count):
            inputs |= self._inputs(positions[start : start + count])
            if len(inputs) >= count:
                break
        chosen = [position for position in positions.tolist() if position in inputs][:count]
        if len(chosen) < min(least, len(positions)):
            raise DataError(
                f"{self._source.uri}: {len(chosen)} of the run's examples can still be read there, unchanged, and "
                f"{min(least, len(positions))} are needed to check what is exported: put the others back."
            )
        return Samples(np.stack([inputs[position] for position in chosen]), self._data.labels[chosen])

    def _inputs(self, positions: np.ndarray) -> dict[int, np.ndarray]:
        """The inputs of the network for these examples, by position, without examples that are gone."""
        pairs = [(self._keys[at], self._versions[at]) for at in positions]
        addresses = np.array([address_of(self._source.uri, *pair) for pair in pairs], ADDRESS)
        part, offset = self._stored.find(addresses)
        inputs: dict[int, np.ndarray] = {}
        try:
            for at, values in read_stored(self._store, self._featurizer, self._stored.parts, part=part, offset=offset):
                inputs |= dict(zip(positions[at].tolist(), values, strict=True))
        except CorruptFeatures:  # the source still has the examples
            pass
        missing = [at for at in positions.tolist() if at not in inputs]
        if not missing:
            return inputs
        read = self._records if self._job.data.is_packed else self._objects
        return inputs | {at: self._read(encoded) for at, encoded in read(missing)}

    def _objects(self, positions: list[int]) -> Iterator[tuple[int, bytes]]:
        reader = object_reader(self._job.data, self._source)

        def read(at: int) -> bytes | None:
            try:
                return reader(self._keys[at], self._versions[at])
            except ObjectMissing:
                return None

        with ThreadPoolExecutor(READERS) as pool:
            yield from _there(zip(positions, pool.map(read, positions), strict=True))

    def _records(self, positions: list[int]) -> Iterator[tuple[int, bytes]]:
        places_by_shard: dict[str, dict[int, int]] = {}
        for at in positions:
            shard, place = split_key(self._keys[at])
            places_by_shard.setdefault(shard, {})[place] = at
        for shard, places in places_by_shard.items():
            info = self._source.stat(shard)
            if info is not None and info.version == self._versions[next(iter(places.values()))]:
                yield from self._of_shard(shard, places)

    def _of_shard(self, shard: str, places: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        uri, last = self._source.uri + shard, max(places)
        with arrow_errors(uri):
            filesystem, root = self._source.arrow()
            with open_shard(filesystem, f"{root}/{shard}", self._job.data) as file:
                for record in records_of(file, self._job.data, uri):
                    if record.position in places:
                        yield places[record.position], record.encoded
                    if record.position == last:
                        return


def _there(read: Iterable[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes]]:
    return ((at, encoded) for at, encoded in read if encoded is not None)
