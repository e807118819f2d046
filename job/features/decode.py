"""Decodes examples to inputs of the network: single objects of the source, or records of a packed file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from threading import BoundedSemaphore
from typing import Any, TypeVar

import numpy as np

from job.data.forms import form_of
from job.data.pictures import Unreadable
from job.data.source import open_source
from job.data.sources.packed import join_key
from job.data.sources.table import object_reader
from job.errors import ObjectMissing
from job.features.extraction import Decoded, Extraction
from job.features.store import address_bytes
from job.features.workload import Chunk, read_chunk, read_chunks_of
from job.libraries import import_tensorflow

GROUP = 8
"""Examples that are decoded in one call. It takes a quarter less processor time than a call for each."""
FILES = 8
"""Packed files whose chunks a decoder keeps in memory."""
GONE = "deleted or overwritten after it was listed"
Pending = Callable[[], Decoded]
"""Waits for the examples whose decoding was begun."""
Input = np.ndarray | str
"""The network's input for an example, or the reason (str) why there is none."""
Content = bytes | Future[bytes | str]
"""An encoded example, or the future of one that is being read, which may also give a reason (str)."""
T = TypeVar("T")


class Decoder:
    def __init__(self, work: Extraction, decoders: Executor, encoded: int) -> None:
        """`decoders` has a thread for each group of examples that is decoded at a time. `encoded` is about the most
        examples that are read, or being read, but not decoded yet.
        """
        import_tensorflow()
        import tensorflow as tf

        self._run, self._store = work.run, work.store
        self._read = object_reader(work.job.data, open_source(work.job))
        self._form = form_of(work.job)
        decoded = tf.TensorSpec(self._form.shape, self._form.dtype)
        self._decode = tf.function(
            lambda encoded: tf.map_fn(self._form.decode, encoded, fn_output_signature=decoded),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )
        self._invalid = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)
        self._decoders, self._room = decoders, BoundedSemaphore(max(1, encoded // GROUP))
        self._work: dict[str, tuple[Chunk, dict[str, int]]] = {}

    def begin_chunk(self, number: int, readers: Executor) -> Pending:
        """Begins to read and decode a chunk of single objects, which are read in the threads of `readers`."""
        chunk = read_chunk(self._store, self._run, number)
        objects = list(zip(chunk.keys, chunk.versions, strict=True))
        decoding = self._begin(objects, lambda listed: readers.submit(self._object, *listed))
        return lambda: self._decoded(chunk, _results(decoding))

    def begin_records(self, shard: str, positions: Sequence[int], encoded: Sequence[bytes]) -> Pending:
        """Begins to decode those of a packed file's records that lack a feature."""
        chunk, places = self._chunk_of(shard)
        record_places = [places.get(join_key(shard, position)) for position in positions]
        lacking = [(place, content) for place, content in zip(record_places, encoded, strict=True) if place is not None]
        decoding = self._begin(lacking, lambda record: record[1])
        return lambda: self._decoded(_choose(chunk, [place for place, _ in lacking]), _results(decoding))

    def _begin(self, items: Sequence[T], read: Callable[[T], Content]) -> list[Future[list[Input]]]:
        """Begins to read and decode the items, group by group; waits while there is no room for more."""
        decoding = []
        for at in range(0, len(items), GROUP):
            self._room.acquire()
            decoding.append(self._decoders.submit(self.inputs, [read(item) for item in items[at : at + GROUP]]))
            decoding[-1].add_done_callback(lambda _: self._room.release())
        return decoding

    def _object(self, key: str, version: str) -> bytes | str:
        try:
            return self._read(key, version)
        except ObjectMissing:
            return GONE

    def inputs(self, group: Sequence[Content]) -> list[Input]:
        """Waits until the group is read, and decodes it."""
        contents = [content.result() if isinstance(content, Future) else content for content in group]
        plain = [content if isinstance(content, str) else self._plain(content) for content in contents]
        whole = [content for content in plain if isinstance(content, bytes)]
        decoded = iter(self._group(whole) if whole else [])
        return [content if isinstance(content, str) else next(decoded) for content in plain]

    def _plain(self, encoded: bytes) -> bytes | str:
        try:
            return self._form.plain(encoded)
        except Unreadable as error:
            return str(error)

    def _group(self, encoded: Sequence[bytes]) -> list[Input]:
        try:
            inputs = self._decode(encoded).numpy()
        except self._invalid:
            if len(encoded) == 1:
                return [self._form.broken]
            return [self._group([content])[0] for content in encoded]  # finds the broken one
        return [self._form.blank if self._form.blank and not values.any() else values for values in inputs]

    def _decoded(self, chunk: Chunk, results: Sequence[Input]) -> Decoded:
        """The inputs and the rejects of a chunk, from the `results` of its examples."""
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
        """The examples of a packed file that lack features, and the place of each key among them."""
        if shard not in self._work:
            chunk = read_chunks_of(self._store, self._run, shard)
            self._work = dict(list(self._work.items())[1 - FILES :])
            self._work[shard] = chunk, {key: place for place, key in enumerate(chunk.keys)}
        return self._work[shard]


def _results(decoding: Iterable[Future[list[Input]]]) -> list[Input]:
    return [network_input for group in decoding for network_input in group.result()]


def _choose(chunk: Chunk, places: list[int]) -> Chunk:
    keys, versions = ([values[place] for place in places] for values in (chunk.keys, chunk.versions))
    at: Any = np.array(places, np.int64)
    return Chunk(keys, versions, chunk.hashes[at], chunk.addresses[at], chunk.needs[at])
