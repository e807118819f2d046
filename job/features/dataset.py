"""The data set of a run: its examples in a fixed order, and the places of their stored features.

runs/<run>/dataset.parquet   row, id, hash, label, split, shard; part and offset in each feature set

The examples are ordered by a hash of their keys, so that any stretch is a random sample, and the order stays the same
when other examples arrive. Records of a packed file follow each other: they are ordered by a hash of the file's key.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from job.data.class_weights import ClassWeights, class_weight_vector
from job.data.order import shard_size
from job.data.snapshot import Snapshot, read_snapshot
from job.data.sources.packed import shards_of
from job.data.splits import SPLITS
from job.features.store import ADDRESS, Featurizer, Part, StoredFeatures, address_of, ids_of
from job.storage import Store, table_errors
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch

ROWS = 65_536
"""Examples whose keys are Python's at a time."""


@dataclass(frozen=True)
class Examples:
    """The rows of a snapshot in the order of the data set."""

    rows: np.ndarray
    """Rows in the snapshot, int64 [n]."""
    table: pa.Table
    """Columns key, version and label (strings)."""
    splits: np.ndarray
    """Indexes into SPLITS, int8 [n]."""
    addresses: np.ndarray
    """Addresses in the feature store, ADDRESS [n]."""
    hashes: np.ndarray
    """Hashes of the keys, uint64 [n]."""


@dataclass(frozen=True)
class FeatureSet:
    """The places where one feature of each example is stored."""

    featurizer: Featurizer
    parts: list[Part]
    part: np.ndarray
    """Indexes into `parts`, int32 [n]; -1 where the example needs no such feature."""
    offset: np.ndarray
    """Rows in the parts, int32 [n]."""


@dataclass(frozen=True)
class Dataset:
    """The examples in the order of the data set, without rejects."""

    id: str
    rows: np.ndarray
    """Rows in the snapshot, int64 [n]."""
    ids: np.ndarray
    """Ids of the examples, int64 [n], see `ids_of`."""
    hashes: np.ndarray
    """Hashes of the keys, uint64 [n]: seeds of augmentation, the same in every store."""
    labels: np.ndarray
    """Indexes into the classes, int32 [n]."""
    weights: np.ndarray
    """The weight of each example in the loss, float32 [n]."""
    shards: np.ndarray
    """The shard of each example in the order, int64 [n], ascending."""
    splits: dict[str, np.ndarray]
    """The positions of each split's examples, int64."""
    pooled: list[FeatureSet]
    """The features that the head trains on, by view."""
    inputs: list[FeatureSet]
    """The features that fine-tuning trains on, by view; empty where nothing is fine-tuned."""

    def sizes(self, split: str) -> np.ndarray:
        """The number of a split's examples in each shard that has any, int64 [shards]."""
        counts = np.bincount(self.shards[self.splits[split]])
        return counts[counts > 0]


def read_examples(store: Store, snapshot: Snapshot, source: str, *, packed: bool) -> Examples:
    """The examples of a snapshot of `source` (a URI), in the order of the data set."""
    table = read_snapshot(store, snapshot, ["key", "version", "label", "split"])
    splits = pc.index_in(table["split"], pa.array(SPLITS)).to_numpy().astype(np.int8)
    hashes, addresses = _digests(table, source)
    rows = np.argsort(_file_hashes(table["key"]) if packed else hashes, kind="stable")
    table = table.drop_columns(["split"]).take(rows)
    return Examples(rows, table, splits[rows], addresses[rows], hashes[rows])


def write_dataset(
    store: Store,
    run: str,
    classes: list[str],
    *,
    examples: Examples,
    accepted: np.ndarray,
    pooled: Sequence[tuple[Featurizer, StoredFeatures]],
    inputs: Sequence[tuple[Featurizer, StoredFeatures]],
) -> None:
    """Writes the table of the `accepted` examples (bool [n]) and the places of their features."""
    size = shard_size(len(examples.rows))
    addresses, splits = examples.addresses[accepted], examples.splits[accepted]
    columns = {
        "row": examples.rows[accepted],
        "id": ids_of(addresses),
        "hash": examples.hashes[accepted],
        "label": pc.index_in(examples.table["label"].filter(accepted), pa.array(classes)).to_numpy().astype(np.int32),
        "split": splits,
        "shard": np.arange(len(examples.rows))[accepted] // size,
    }
    sets: list[dict[str, object]] = []
    for role, feature_sets in (("pooled", pooled), ("inputs", inputs)):
        for featurizer, stored in feature_sets:
            part, offset = stored.find(addresses)
            if featurizer.view:
                part = np.where(splits == SPLITS.index("train"), part, -1).astype(np.int32)
            used, columns[f"part_{len(sets)}"] = _renumbered(part)
            columns[f"offset_{len(sets)}"] = offset
            parts = [asdict(stored.parts[i]) for i in used]
            sets.append({"role": role, "featurizer": asdict(featurizer), "parts": parts})
    table = pa.table(columns).replace_schema_metadata({"sets": json.dumps(sets)})
    with scratch() as folder:
        file = os.path.join(folder, "dataset")
        pq.write_table(table, file, compression="zstd")
        store.upload(RunKeys(run).dataset, file)


def load_dataset(store: Store, run: str, classes: list[str], *, class_weights: ClassWeights) -> Dataset:
    content = store.read(RunKeys(run).dataset)
    with table_errors(f"{store.uri}{RunKeys(run).dataset}"):
        table = pq.read_table(io.BytesIO(content))
    column = {name: table[name].to_numpy() for name in table.column_names}
    roles: dict[str, list[FeatureSet]] = {"pooled": [], "inputs": []}
    for number, stored in enumerate(json.loads(table.schema.metadata[b"sets"])):
        featurizer = Featurizer.from_json(stored["featurizer"])
        parts = [Part(**part) for part in stored["parts"]]
        feature_set = FeatureSet(featurizer, parts, column[f"part_{number}"], column[f"offset_{number}"])
        roles[stored["role"]].append(feature_set)
    splits = {split: np.flatnonzero(column["split"] == number) for number, split in enumerate(SPLITS)}
    labels = column["label"]
    per_class = class_weight_vector(class_weights, classes, labels[splits["train"]])
    digest = hashlib.sha256(content).hexdigest()[:20]
    weights = per_class[labels]
    return Dataset(
        digest, column["row"], column["id"], column["hash"], labels, weights, column["shard"], splits, **roles
    )


def _digests(table: pa.Table, source: str) -> tuple[np.ndarray, np.ndarray]:
    """The hash of each example's key, uint64 [n], and its address, ADDRESS [n]. Python's own objects are those of ROWS
    examples at a time.
    """
    hashes, addresses = np.empty(len(table), np.uint64), np.empty(len(table), ADDRESS)
    done = 0
    for batch in table.select(["key", "version"]).to_batches(ROWS):
        keys, versions = (column.to_pylist() for column in batch.columns)
        rows = slice(done, done := done + len(keys))
        hashes[rows] = _hashes(keys)
        joined = b"".join([address_of(source, *pair) for pair in zip(keys, versions, strict=True)])
        addresses[rows] = np.frombuffer(joined, ADDRESS)
    return hashes, addresses


def _hashes(texts: Sequence[str]) -> np.ndarray:
    """A hash of each text, uint64 [n]: the order of the data set."""
    blake = hashlib.blake2b
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    digests = [blake(text, digest_size=8, person=b"thaw-order").digest() for text in encoded]
    return np.frombuffer(b"".join(digests), "<u8")


def _file_hashes(keys: pa.ChunkedArray) -> np.ndarray:
    """The hash of each record's packed file, uint64 [n]."""
    files, file = shards_of(keys)
    return _hashes(files)[file]


def _renumbered(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the parts that are used, ascending, and `part` as indexes into these, int32; -1 stays."""
    used = np.unique(part[part >= 0])
    return used, np.where(part >= 0, np.searchsorted(used, part), -1).astype(np.int32)
