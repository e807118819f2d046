"""The extract stage on Ray Data: decoders on CPUs pass inputs to featurizers, which use GPUs where there are any."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import ray.data

from job.data.source import open_source
from job.executors.placement import cpus_here, is_here
from job.executors.ray.actors import Actor, carried, rows_of
from job.executors.ray.cluster import extract_processes
from job.executors.ray.datasource import read_records
from job.features.collecting import FILE_BYTES, Collector, write_collected
from job.features.decode import Decoder
from job.features.extraction import Decoded, Extracted, Extraction
from job.features.featurize import FrozenNetwork
from job.features.store import ADDRESS
from job.features.workload import CHUNK
from job.run.events import Emit

READERS = 32
"""Objects that one decoder reads at a time: it decodes hundreds a second, and a bucket takes a tenth of one for each.
"""

MOST_BYTES = 256 * 2**20
"""The most bytes of features that are in a process's memory before they are stored."""
WRITES = 4
"""Processes that store features at a time."""
CHUNKS_ON_CPUS = 4
"""The most chunks whose features become a file, where no GPU computes them."""


def extract(work: Extraction, emit: Emit) -> Iterator[Extracted]:
    """Computes and stores features in Ray's processes. Needs Ray."""
    decoders, networks = extract_processes(work.job)
    failures = work.job.recovery.max_failures
    options: dict[str, Any] = {
        "fn_constructor_args": (replace(work, chunks=[]),),
        "num_cpus": 1,
        "ray_remote_args_fn": lambda: {"max_restarts": failures, "max_task_retries": failures},
    }
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=decoders)
    if work.job.data.is_packed:
        records = read_records(work.job.data, open_source(work.job), dict(work.chunks))
        decoded = records.map_batches(DecodeRecords, batch_size=CHUNK, compute=pool, **options)
    else:
        count = len(work.chunks)
        tasks = ray.data.from_items([{"chunk": i} for i in range(count)], override_num_blocks=count)
        decoded = tasks.map(DecodeObjects, compute=pool, **options)  # type: ignore[arg-type]
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=networks)
    new = decoded.map(Featurize, compute=pool, num_gpus=1 if work.job.scaling.gpu else 0, **options)  # type: ignore[arg-type]
    store = partial(store_features, work=replace(work, chunks=[]))
    # A head that has no CPUs to give has no memory for this either; on this machine, the other stages take all of them.
    cpus = 0 if is_here() else 0.1
    written = new.map_batches(store, batch_size=_chunks_of_file(work), num_cpus=cpus, concurrency=WRITES)
    for row in rows_of(written, "Extracting features", emit):
        yield Extracted(int(row["done"]), json.loads(row["gone"]))


class DecodeObjects(Actor[dict[str, Any]]):
    """Decodes a chunk of single objects, {chunk}, to one row."""

    def start(self, work: Extraction) -> None:
        self._decoder = Decoder(work, ThreadPoolExecutor(1), encoded=4 * READERS)
        self._readers = ThreadPoolExecutor(READERS)

    def process(self, row: dict[str, Any]) -> dict[str, Any]:
        return row_of(self._decoder.begin_chunk(int(row["chunk"]), self._readers)())


class DecodeRecords(Actor[dict[str, np.ndarray]]):
    """Decodes a batch of records, {shard, position, encoded}, to a row for each of its packed files."""

    def start(self, work: Extraction) -> None:
        self._decoder = Decoder(work, ThreadPoolExecutor(1), encoded=CHUNK)

    def process(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        rows = [self._decoded(batch, shard) for shard in dict.fromkeys(batch["shard"])]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _decoded(self, batch: dict[str, np.ndarray], shard: str) -> dict[str, Any]:
        at = np.flatnonzero(batch["shard"] == shard)
        positions, encoded = ([batch[name][i] for i in at] for name in ("position", "encoded"))
        return row_of(self._decoder.begin_records(shard, [int(position) for position in positions], encoded)())


class Featurize(Actor[dict[str, Any]]):
    """Computes the features that decoded examples lack. Their row becomes {new, done, gone}."""

    def start(self, work: Extraction) -> None:
        self._network = FrozenNetwork(work, cpus=cpus_here() if is_here() else 1)

    def process(self, row: dict[str, Any]) -> dict[str, Any]:
        new = pickle.dumps(self._network.parts(decoded_of(row)), protocol=pickle.HIGHEST_PROTOCOL)
        return {"new": new, "done": row["done"], "gone": row["gone"]}


def store_features(rows: dict[str, np.ndarray], work: Extraction) -> dict[str, list[Any]]:
    """Stores the features in rows {new, done, gone}, of each featurizer in a file; returns one row, {done, gone}."""
    with carried():
        collector = Collector()
        collected = [file for content in rows["new"] for file in collector.add(pickle.loads(content))]
        for file in chain(collected, collector.rest()):
            write_collected(work.store, file)
        gone = {key: why for some in rows["gone"] for key, why in json.loads(some).items()}
        return {"done": [int(rows["done"].sum())], "gone": [json.dumps(gone)]}


def _chunks_of_file(work: Extraction) -> int:
    """Chunks whose features become a file. On CPUs they are fewer: the user is told when they are stored."""
    sizes = [CHUNK * featurizer.bytes_per_example for featurizer in work.featurizers]
    most = min(FILE_BYTES // max(sizes), MOST_BYTES // sum(sizes))
    return int(np.clip(most, 1, None if work.job.scaling.gpu else CHUNKS_ON_CPUS))


def row_of(decoded: Decoded) -> dict[str, Any]:
    """The row by which Ray Data passes decoded examples on."""
    rejects = [(base64.b64encode(address).decode(), why) for address, why in decoded.rejects]
    return {
        "inputs": decoded.inputs,
        "addresses": decoded.addresses.tobytes(),
        "hashes": decoded.hashes,
        "needs": decoded.needs,
        "rejects": json.dumps(rejects),
        "gone": json.dumps(decoded.gone),
        "done": decoded.done,
    }


def decoded_of(row: dict[str, Any]) -> Decoded:
    return Decoded(
        row["inputs"],
        np.frombuffer(row["addresses"], ADDRESS),
        row["hashes"],
        row["needs"],
        [(base64.b64decode(address), why) for address, why in json.loads(row["rejects"])],
        json.loads(row["gone"]),
        int(row["done"]),
    )
