"""The decoders of the extract stage: encoded examples, one by one from the store or as records, become inputs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from job.config import Job
from job.data.features import address_bytes
from job.data.forms import form_of
from job.data.packed import join_key
from job.data.table import object_reader
from job.data.work import Chunk, read_chunk, read_chunks_of
from job.errors import ObjectMissing
from job.libraries import import_tensorflow
from job.run.actors import Actor, Row
from job.storage import open_store

READERS = 8
"""Objects that one decoder reads at a time."""
FILES = 8
"""Packed files whose work a decoder keeps in mind."""
GONE = "deleted or overwritten after it was listed"


class Decoder(Actor[Row]):
    """-> {inputs [n, …] in the job's form, addresses, hashes, needs of these; rejects and gone (JSON), done}"""

    def start(self, config: dict[str, Any]) -> None:
        import_tensorflow()
        import tensorflow as tf

        self.job, self.run = Job.model_validate(config["job"]), config["run"]
        source, self.store = open_store(self.job.data.source), open_store(self.job.store)
        self.read = object_reader(self.job.data, source)
        self.form = form_of(self.job)
        self.decode = tf.function(self.form.decode, input_signature=[tf.TensorSpec([], tf.string)])
        self.invalid = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)

    def input(self, encoded: bytes) -> np.ndarray | str:
        """What the network takes, or the reason why it can't be decoded."""
        reason = self.form.inspect(encoded)
        if reason:
            return reason
        try:
            decoded = self.decode(encoded).numpy()
        except self.invalid:
            return self.form.broken
        return self.form.blank if self.form.blank and not decoded.any() else decoded

    def row(self, chunk: Chunk, results: Sequence[np.ndarray | str]) -> dict[str, Any]:
        """`results` are inputs, or why there is none, of the chunk's examples."""
        kept = np.array([isinstance(result, np.ndarray) for result in results], np.bool_)
        inputs = [result for result in results if isinstance(result, np.ndarray)]
        refused = [(at, result) for at, result in enumerate(results) if isinstance(result, str)]
        addresses = address_bytes(chunk.addresses)
        rejects = [(base64.b64encode(addresses[at]).decode(), why) for at, why in refused if why != GONE]
        gone = {chunk.keys[at]: why for at, why in refused if why == GONE}
        return {
            "inputs": np.stack(inputs) if inputs else np.zeros((0, *self.form.shape), self.form.dtype),
            "addresses": chunk.addresses[kept].tobytes(),
            "hashes": chunk.hashes[kept],
            "needs": chunk.needs[kept],
            "rejects": json.dumps(rejects),
            "gone": json.dumps(gone),
            "done": len(results),
        }


class DecodeObjects(Decoder[dict[str, Any]]):
    """Reads and decodes the examples of a chunk, each an object of its own: {chunk} -> see Decoder."""

    def process(self, row: dict[str, Any]) -> dict[str, Any]:
        chunk = read_chunk(self.store, self.run, int(row["chunk"]))
        with ThreadPoolExecutor(READERS) as pool:
            return self.row(chunk, list(pool.map(self._read, chunk.keys, chunk.versions)))

    def _read(self, key: str, version: str) -> np.ndarray | str:
        try:
            return self.input(self.read(key, version))
        except ObjectMissing:
            return GONE


class DecodeRecords(Decoder[dict[str, np.ndarray]]):
    """Decodes the records that lack a feature: a batch {shard, position, encoded} -> one row, see Decoder."""

    def start(self, config: dict[str, Any]) -> None:
        super().start(config)
        self._work: dict[str, tuple[Chunk, dict[str, int]]] = {}

    def process(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        rows = [self._decoded(batch, shard) for shard in dict.fromkeys(batch["shard"])]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _decoded(self, batch: dict[str, np.ndarray], shard: str) -> dict[str, Any]:
        chunk, places = self._chunk(shard)
        records = np.flatnonzero(batch["shard"] == shard)
        found = {i: places.get(join_key(shard, int(batch["position"][i]))) for i in records}
        wanted = {i: place for i, place in found.items() if place is not None}
        with ThreadPoolExecutor(READERS) as pool:
            results = list(pool.map(self.input, (batch["encoded"][i] for i in wanted)))
        return self.row(_choose(chunk, list(wanted.values())), results)

    def _chunk(self, shard: str) -> tuple[Chunk, dict[str, int]]:
        """The work in a packed file, and where in it each key is."""
        if shard not in self._work:
            chunk = read_chunks_of(self.store, self.run, shard)
            self._work = dict(list(self._work.items())[1 - FILES :])
            self._work[shard] = chunk, {key: place for place, key in enumerate(chunk.keys)}
        return self._work[shard]


def _choose(chunk: Chunk, places: list[int]) -> Chunk:
    keys, versions = ([values[place] for place in places] for values in (chunk.keys, chunk.versions))
    at = np.array(places, np.int64)
    return Chunk(keys, versions, chunk.hashes[at], chunk.addresses[at], chunk.needs[at])
