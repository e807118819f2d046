from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.data.class_weights import check_class_weights, class_weight_vector
from job.data.order import shard_size
from job.data.snapshot import Snapshot
from job.errors import JobError, StorageError
from job.features.dataset import Examples, load_dataset, read_examples, write_dataset
from job.features.store import ADDRESS, address_of, ids_of, read_part, stored_features
from job.storage import Store
from job.storage.run_keys import RunKeys
from support.stored import CLASSES, POOLED, examples_of, featurizer_of, split_up, values_of, write_part


def test_the_data_set_comes_back_with_the_place_of_every_feature(store: Store) -> None:
    random, count = np.random.default_rng(0), 2000
    labels, splits = random.integers(0, 2, count).astype(np.int32), split_up(count)
    examples = replace(examples_of(labels, splits), rows=random.permutation(count))
    accepted = random.random(count) < 0.95
    cut = featurizer_of("block_15_add", np.zeros((1, 2, 2, 4), np.float16))
    featurizers = [POOLED, replace(POOLED, view=1), cut, replace(cut, view=1)]
    for featurizer in featurizers:
        foreign = np.array([address_of("other", f"{i}", "1") for i in range(50)], ADDRESS)
        write_part(store, featurizer, foreign, values=values_of(featurizer, 50))
        for numbers in np.array_split(random.permutation(np.flatnonzero(accepted)), 9):
            write_part(store, featurizer, examples.addresses[numbers], values=values_of(featurizer, len(numbers)))
    found = [(featurizer, stored_features(store, featurizer)) for featurizer in featurizers]
    write_dataset(store, "run", CLASSES, examples=examples, accepted=accepted, pooled=found[:2], inputs=found[2:])
    data = load_dataset(store, "run", CLASSES, class_weights="auto")
    assert (data.rows == examples.rows[accepted]).all()
    assert (data.ids == ids_of(examples.addresses[accepted])).all()
    assert (data.hashes == examples.hashes[accepted]).all()
    assert (data.labels == labels[accepted]).all()
    assert (data.labels.dtype, data.hashes.dtype) == (np.int32, np.uint64)
    for split, members in splits.items():
        assert (np.flatnonzero(accepted)[data.splits[split]] == members[accepted[members]]).all()
        assert data.sizes(split).sum() == len(data.splits[split])
        assert data.sizes(split).min() > 0
    assert (data.shards == np.flatnonzero(accepted) // shard_size(count)).all()
    train = data.labels[data.splits["train"]]
    assert (data.weights == class_weight_vector("auto", CLASSES, train)[data.labels]).all()
    assert [features.featurizer for features in (*data.pooled, *data.inputs)] == featurizers
    for features in (*data.pooled, *data.inputs):
        there = np.isin(np.arange(len(data.rows)), data.splits["train"]) if features.featurizer.view else np.True_
        assert ((features.part >= 0) == there).all()
        assert len(features.parts) == 9  # the part of another data set is left out
        addresses = [read_part(store, features.featurizer, part)[0] for part in features.parts]
        for at in np.flatnonzero(features.part >= 0)[::40]:
            assert addresses[features.part[at]][features.offset[at]] == examples.addresses[accepted][at]
    assert load_dataset(store, "run", CLASSES, class_weights=None).id == data.id


def test_a_broken_data_set_is_named(store: Store) -> None:
    store.write(RunKeys("run").dataset, b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"runs/run/dataset\.parquet is not what was written"):
        load_dataset(store, "run", CLASSES, class_weights=None)


def snapshot_of(store: Store, keys: list[str], version: str = "1") -> Snapshot:
    table = {"key": keys, "version": [version] * len(keys), "label": ["a"] * len(keys), "split": ["test"] * len(keys)}
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    snapshot = Snapshot(f"of {len(keys)} {version}", len(keys), ["a"], {}, {}, {})
    store.write(snapshot.key, buffer.getvalue())
    return snapshot


def keys_of(examples: Examples) -> list[str]:
    return examples.table["key"].to_pylist()


def test_the_order_of_a_data_set_is_that_of_its_keys_whatever_else_is_there(store: Store) -> None:
    keys = [f"{label}/{i:04d}.png" for label in ("a", "b") for i in range(500)]
    whole = read_examples(store, snapshot_of(store, keys), "s3://one/", packed=False)
    assert [keys[row] for row in whole.rows] == keys_of(whole)
    assert sorted(keys_of(whole)) == keys
    other = read_examples(store, snapshot_of(store, keys, version="2"), "gs://two/", packed=False)
    assert keys_of(other) == keys_of(whole)
    assert (other.hashes == whole.hashes).all()
    assert not np.isin(other.addresses, whole.addresses).any()
    few = read_examples(store, snapshot_of(store, keys[100:700:3]), "s3://one/", packed=False)
    assert keys_of(few) == [key for key in keys_of(whole) if key in set(keys[100:700:3])]
    assert np.isin(few.addresses, whole.addresses).all()
    # Any stretch is a random sample: half of the first examples are of the first half.
    assert np.mean(whole.rows[:200] < 500) == pytest.approx(0.5, abs=0.12)
    assert np.abs(np.corrcoef(whole.rows, np.arange(1000))[0, 1]) < 0.12


def test_records_of_a_packed_file_stay_together_in_their_order(store: Store) -> None:
    keys = [f"{file:02d}.tar#{i:09d}" for file in range(20) for i in range(30)]
    whole = read_examples(store, snapshot_of(store, keys), "s3://one/", packed=True)
    files = [key.partition("#")[0] for key in keys_of(whole)]
    assert sum(a != b for a, b in zip(files[1:], files, strict=False)) == 19
    assert files[::30] != sorted(files[::30])
    assert all(keys_of(whole)[at : at + 30] == sorted(keys_of(whole)[at : at + 30]) for at in range(0, 600, 30))
    assert len(set(whole.hashes.tolist())) == 600  # records are augmented apart
    few = read_examples(store, snapshot_of(store, keys[300:]), "s3://one/", packed=True)
    assert keys_of(few) == [key for key in keys_of(whole) if key in set(keys[300:])]


def test_a_class_that_the_data_has_not_is_named_beside_those_it_has() -> None:
    check_class_weights({"0": 1.0, "1": 5.0}, ["0", "1"])
    with pytest.raises(JobError, match=r"no class 'Yes' \(nearest: 'yes'\); the classes are no, yes\."):
        check_class_weights({"Yes": 1.0}, ["no", "yes"])
    with pytest.raises(JobError, match=r"no class 'x'; the classes are c0, .*, c19 and 80 more\."):
        check_class_weights({"x": 1.0}, [f"c{number}" for number in range(100)])


def test_auto_class_weights_make_classes_count_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weight_vector("auto", ["a", "b"], labels)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weight_vector({"b": 3.0}, ["a", "b"], labels).tolist() == [1, 3]


def test_weights_are_found_in_another_unicode_form_of_a_name() -> None:
    classes = ["cafe\u0301", "tea"]
    check_class_weights({"caf\u00e9": 2.0}, classes)
    assert class_weight_vector({"caf\u00e9": 2.0}, classes, np.zeros(1)).tolist() == [2.0, 1.0]
    with pytest.raises(JobError, match=r"'tea' is there twice, in two spellings"):
        check_class_weights({"tea": 2.0, " tea": 1.0}, classes)
    with pytest.raises(JobError, match=r"no class 'coffee'; the classes are c0, c1, .*, c19 and 5 more\."):
        check_class_weights({"coffee": 2.0}, [f"c{number}" for number in range(25)])
