"""Encoded examples, one by one from the store or as records of a packed file, become inputs of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from threading import BoundedSemaphore
from typing import Any

import numpy as np

from job.data.features import address_bytes
from job.data.forms import form_of
from job.data.packed import join_key
from job.data.table import object_reader
from job.data.work import Chunk, read_chunk, read_chunks_of
from job.errors import ObjectMissing
from job.features.extraction import Decoded, Extraction
from job.libraries import import_tensorflow
from job.storage import open_store

FILES = 8
"""Packed files whose work a decoder keeps in mind."""
GONE = "deleted or overwritten after it was listed"
Pending = Callable[[], Decoded]
"""Waits for what was begun."""


class Decoder:
    def __init__(self, work: Extraction, cores: int) -> None:
        """Many examples may be read at a time; `cores` of them are decoded."""
        import_tensorflow()
        import tensorflow as tf

        self._run, self._store = work.run, work.store
        self._read = object_reader(work.job.data, open_store(work.job.data.source))
        self._form = form_of(work.job)
        self._decode = tf.function(self._form.decode, input_signature=[tf.TensorSpec([], tf.string)])
        self._invalid = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)
        self._cores = BoundedSemaphore(cores)
        self._work: dict[str, tuple[Chunk, dict[str, int]]] = {}

    def begin_chunk(self, number: int, pool: Executor) -> Pending:
        """Begins to read and decode a chunk of single objects, in the threads of `pool`."""
        chunk = read_chunk(self._store, self._run, number)
        results = pool.map(self._object, chunk.keys, chunk.versions)
        return lambda: self._decoded(chunk, list(results))

    def begin_records(self, shard: str, positions: Sequence[int], encoded: Sequence[bytes], pool: Executor) -> Pending:
        """Begins to decode those of a packed file's records that lack a feature."""
        chunk, places = self._chunk_of(shard)
        found = [places.get(join_key(shard, position)) for position in positions]
        wanted = [(place, content) for place, content in zip(found, encoded, strict=True) if place is not None]
        results = pool.map(self._input, [content for _, content in wanted])
        return lambda: self._decoded(_choose(chunk, [place for place, _ in wanted]), list(results))

    def _object(self, key: str, version: str) -> np.ndarray | str:
        try:
            return self._input(self._read(key, version))
        except ObjectMissing:
            return GONE

    def _input(self, encoded: bytes) -> np.ndarray | str:
        """What the network takes, or the reason why it can't be decoded."""
        with self._cores:
            reason = self._form.inspect(encoded)
            if reason:
                return reason
            try:
                decoded = self._decode(encoded).numpy()
            except self._invalid:
                return self._form.broken
        return self._form.blank if self._form.blank and not decoded.any() else decoded

    def _decoded(self, chunk: Chunk, results: Sequence[np.ndarray | str]) -> Decoded:
        """`results` are inputs, or why there is none, of the chunk's examples."""
        kept = np.array([isinstance(result, np.ndarray) for result in results], np.bool_)
        inputs = [result for result in results if isinstance(result, np.ndarray)]
        refused = [(at, result) for at, result in enumerate(results) if isinstance(result, str)]
        addresses = address_bytes(chunk.addresses)
        return Decoded(
            np.stack(inputs) if inputs else np.zeros((0, *self._form.shape), self._form.dtype),
            chunk.addresses[kept],
            chunk.hashes[kept],
            chunk.needs[kept],
            [(addresses[at], why) for at, why in refused if why != GONE],
            {chunk.keys[at]: why for at, why in refused if why == GONE},
            len(results),
        )

    def _chunk_of(self, shard: str) -> tuple[Chunk, dict[str, int]]:
        """The work in a packed file, and where in it each key is."""
        if shard not in self._work:
            chunk = read_chunks_of(self._store, self._run, shard)
            self._work = dict(list(self._work.items())[1 - FILES :])
            self._work[shard] = chunk, {key: place for place, key in enumerate(chunk.keys)}
        return self._work[shard]


def _choose(chunk: Chunk, places: list[int]) -> Chunk:
    keys, versions = ([values[place] for place in places] for values in (chunk.keys, chunk.versions))
    at: Any = np.array(places, np.int64)
    return Chunk(keys, versions, chunk.hashes[at], chunk.addresses[at], chunk.needs[at])
