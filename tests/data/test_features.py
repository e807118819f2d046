from __future__ import annotations

import io
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored import CLASSES, examples_of, featurizer_of

from job.data.dataset import Examples, class_weight_vector, load_dataset, read_examples, write_dataset
from job.data.features import (
    ADDRESS,
    Featurizer,
    Part,
    address_of,
    describe,
    forget_part,
    ids_of,
    known,
    read_part,
    write_part,
)
from job.data.order import shard_size
from job.data.snapshot import Snapshot
from job.data.work import CHUNK, CHUNK_BYTES, missing, read_chunk, read_chunks_of, work_key, write_work
from job.errors import CorruptFeatures
from job.storage import Store, open_store

POOLED = Featurizer("pooled", 0, "float32", (3,), {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store/")


def addresses_of(*numbers: int) -> np.ndarray:
    return np.array([address_of("file:///s/", f"{number}", "1") for number in numbers], ADDRESS)


def values_of(featurizer: Featurizer, examples: int) -> np.ndarray:
    """Every bit pattern is as likely: also infinities, subnormal numbers and NaN."""
    noise = np.random.default_rng(0).integers(0, 256, (examples, featurizer.bytes_per_example), np.uint8)
    return noise.view(featurizer.storage).reshape(examples, *featurizer.shape)


def store_pooled(store: Store, *numbers: int, **settings: object) -> Part:
    """Each value is the number of its example."""
    values = np.repeat(np.array(numbers, np.float32), 3).reshape(-1, 3)
    return write_part(store, POOLED, addresses_of(*numbers), values, **settings)  # type: ignore[arg-type]


def split_up(examples: int) -> dict[str, np.ndarray]:
    """Of ten examples, seven train."""
    tens = np.arange(examples) % 10
    return {
        "train": np.flatnonzero(tens < 7),
        "validation": np.flatnonzero(tens == 7),
        "test": np.flatnonzero(tens > 7),
    }


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 4, 3)])
@pytest.mark.parametrize("tap", ["image", "pooled", "block_15_add"])
def test_a_part_comes_back_to_the_bit(dtype: str, shape: tuple[int, ...], tap: str, store: Store) -> None:
    featurizer = Featurizer(tap, 0, dtype, shape, {})
    whole = values_of(featurizer, 20)
    assert whole.nbytes == 20 * featurizer.bytes_per_example
    for values, numbers in ((whole[:9], range(9)), (whole[10::3], range(9, 13))):
        part = write_part(store, featurizer, addresses_of(*numbers), values)
        addresses, read = read_part(store, featurizer, part)
        assert (addresses == addresses_of(*numbers)).all()
        assert (read.dtype, read.shape) == (featurizer.storage, values.shape)
        assert read.tobytes() == values.tobytes()
        assert part.rows == len(values)


def test_an_address_is_that_of_a_version_of_a_key_in_a_source() -> None:
    parts = ["s3://a/", "x/1.png", "v1"]
    others = [
        ["s3://b/", *parts[1:]],
        [parts[0], "x/2.png", parts[2]],
        [*parts[:2], "v2"],
        ["s3://a/x/", "1.png", "v1"],
    ]
    addresses = {address_of(*words) for words in [parts, *others]}
    assert {len(address) for address in addresses} == {16}
    assert len(addresses) == 5
    assert address_of(*parts) in addresses
    assert address_of("s3://a/", "\udcff", "v1") != address_of("s3://a/", "\udcfe", "v1")  # names that are not UTF-8


def test_a_featurizer_is_named_by_all_that_determines_its_values() -> None:
    meaning: dict[str, object] = {"image_size": 32, "base": {"id": "x", "layers": [1, 2]}}
    first = Featurizer("image", 0, "uint8", (32, 32, 3), meaning)
    again = Featurizer(**{**json.loads(json.dumps(asdict(first))), "shape": (32, 32, 3)})
    assert replace(again, meaning=dict(reversed(meaning.items()))).id == first.id
    others = [
        replace(first, tap="pooled"),
        replace(first, view=1),
        replace(first, dtype="float16"),
        replace(first, shape=(32, 3, 32)),
        replace(first, meaning={**meaning, "image_size": 33}),
        replace(first, meaning={**meaning, "image_size": "32"}),
        replace(first, meaning={**meaning, "base": {"id": "x", "layers": [2, 1]}}),
        replace(first, meaning={**meaning, "augment": None}),
        replace(first, meaning={"image_size": 32}),
    ]
    assert len({featurizer.id for featurizer in [first, *others]}) == 10


def test_a_part_is_there_once_its_marker_is(store: Store) -> None:
    describe(store, POOLED)
    assert known(store, POOLED).parts == []
    part = store_pooled(store, 1, 2)
    assert known(store, POOLED).parts == [part]
    marker = f"features/{POOLED.id}/{part.name}.json"
    whole = store.read(marker)
    store.write(marker, whole[:-1])
    assert known(store, POOLED).find(addresses_of(1, 2))[0].tolist() == [-1, -1]
    store.delete(marker)
    assert known(store, POOLED).find(addresses_of(1, 2))[0].tolist() == [-1, -1]
    assert store_pooled(store, 1, 2) == part
    assert store.read(marker) == whole
    assert known(store, replace(POOLED, view=1)).parts == []


def test_a_part_of_another_format_is_not_known(store: Store) -> None:
    part = store_pooled(store, 1)
    marker = f"features/{POOLED.id}/{part.name}.json"
    store.write(marker, json.dumps({**json.loads(store.read(marker)), "format": 1}).encode())
    assert known(store, POOLED).parts == []


@pytest.mark.parametrize("change", ["gone", "cut short", "one bit", "another part"])
def test_a_part_that_is_not_what_was_written_is_named(change: str, store: Store) -> None:
    other, part = store_pooled(store, 5, 6, 7), store_pooled(store, 1, 2, 3)
    key = f"features/{POOLED.id}/{part.name}.parquet"
    content = store.read(key)
    if change == "gone":
        store.delete(key)
    elif change == "cut short":
        store.write(key, content[:-1])
    elif change == "one bit":
        store.write(key, content[:40] + bytes([content[40] ^ 1]) + content[41:])
    else:
        store.write(key, store.read(f"features/{POOLED.id}/{other.name}.parquet"))
    assert known(store, POOLED).find(addresses_of(2))[0][0] >= 0
    with pytest.raises(CorruptFeatures, match=f"{store.uri}{key} is ") as caught:
        read_part(store, POOLED, part)
    travelled = pickle.loads(pickle.dumps(caught.value))
    assert (travelled.featurizer, travelled.part, str(travelled)) == (POOLED.id, part.name, str(caught.value))
    read_part(store, POOLED, other)


def test_forgetting_a_part_makes_its_examples_missing_again(store: Store) -> None:
    kept, part = store_pooled(store, 4), store_pooled(store, 1, 2)
    forget_part(store, POOLED.id, part.name)
    forget_part(store, POOLED.id, part.name)
    found = known(store, POOLED)
    assert found.parts == [kept]
    assert found.find(addresses_of(1, 4, 2))[0].tolist() == [-1, 0, -1]
    assert store_pooled(store, 1, 2) == part
    assert (known(store, POOLED).find(addresses_of(1, 4, 2))[0] >= 0).all()


def test_what_is_found_is_where_it_says(store: Store) -> None:
    """Examples that are stored, stored twice, or not at all, in any order."""
    random = np.random.default_rng(0)
    for numbers in np.split(random.permutation(400), 8):
        store_pooled(store, *numbers)
    store_pooled(store, *random.choice(400, 60, replace=False), 1000)
    found = known(store, POOLED)
    asked = random.permutation(np.concatenate([np.arange(300, 700), [1000, 1000, 5]]))
    part, offset = found.find(addresses_of(*asked))
    assert (part.dtype, offset.dtype) == (np.int32, np.int32)
    there = (asked < 400) | (asked == 1000)
    assert (part >= 0).tolist() == there.tolist()
    assert (offset >= 0).tolist() == there.tolist()
    read = [read_part(store, POOLED, p) for p in found.parts]
    for number, p, o in zip(asked[there], part[there], offset[there], strict=True):
        addresses, values = read[p]
        assert addresses[o] == addresses_of(number)[0]
        assert values[o].tolist() == [number] * 3


def test_an_address_may_end_with_zeros(store: Store) -> None:
    """NumPy's byte strings drop them."""
    texts = [b"\1" * 16, b"\1" * 15 + b"\0", b"\1" * 8 + b"\0" * 8, b"\0" * 16, b"\0" * 15 + b"\1", b"\2" + b"\0" * 15]
    addresses = np.array(texts, ADDRESS)
    part = write_part(store, POOLED, addresses[:4], np.zeros((4, 3), np.float32), [(texts[5], "not an image")])
    assert (read_part(store, POOLED, part)[0] == addresses[:4]).all()
    found = known(store, POOLED)
    assert found.find(addresses)[1].tolist() == [0, 1, 2, 3, -1, -1]
    assert found.rejects == {texts[5]: "not an image"}
    assert ids_of(addresses).tolist() == [int.from_bytes(text[:8], "little", signed=True) for text in texts]
    examples = replace(examples_of(np.zeros(6, np.int32), {"train": np.arange(6)}), addresses=addresses)
    assert missing(examples, [(POOLED, found)])[:, 0].tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("others", [(), (1, 2)])
def test_rejects_are_known_and_have_no_features(others: tuple[int, ...], store: Store) -> None:
    (address,) = addresses_of(7).tolist()
    part = store_pooled(store, *others, rejects=[(address, "not an image")])
    assert part.rows == len(others)
    found = known(store, POOLED)
    assert found.rejects == {address: "not an image"}
    assert (found.find(addresses_of(*others))[0] >= 0).all()
    assert found.find(addresses_of(7))[0].tolist() == [-1]


def test_a_chunk_with_a_reject_and_the_same_without_are_two_parts(store: Store) -> None:
    (address,) = addresses_of(2).tolist()
    strict = store_pooled(store, 1, rejects=[(address, "not an image")])
    store_pooled(store, 1, 2)
    assert known(store, POOLED).rejects == {address: "not an image"}
    assert read_part(store, POOLED, strict)[0].tolist() == addresses_of(1).tolist()


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no JSON", b'{"format": 0}'])
def test_what_is_no_marker_is_passed_over(content: bytes, store: Store) -> None:
    store_pooled(store, 1)
    store.write(f"features/{POOLED.id}/other.json", content)
    assert known(store, POOLED).addresses.tolist() == addresses_of(1).tolist()


def test_new_examples_are_all_that_is_missing(store: Store) -> None:
    examples = examples_of(np.zeros(200, np.int32), {"train": np.arange(200)})
    new = np.random.default_rng(0).choice(200, 20, replace=False)
    old = np.setdiff1d(np.arange(200), new)
    write_part(store, POOLED, examples.addresses[old], np.zeros((180, 3), np.float32))
    needs = missing(examples, [(POOLED, known(store, POOLED))])
    assert np.flatnonzero(needs[:, 0]).tolist() == sorted(new)
    version = replace(examples, addresses=np.array([address_of("test", f"{i:06d}", "2") for i in range(200)], ADDRESS))
    assert missing(version, [(POOLED, known(store, POOLED))]).all()


def test_only_training_examples_need_views_and_rejects_need_nothing(store: Store) -> None:
    examples, view = examples_of(np.zeros(30, np.int32), split_up(30)), replace(POOLED, view=1)
    rejected = [3, 17, 28]
    write_part(store, POOLED, examples.addresses[[0, 2, 4]], np.zeros((3, 3), np.float32))
    write_part(store, view, examples.addresses[:2], np.zeros((2, 3), np.float32))
    refused = [(address, "not an image") for address in examples.addresses[rejected].tolist()]
    write_part(store, POOLED, examples.addresses[5:6], np.zeros((1, 3), np.float32), refused)
    needs = missing(examples, [(featurizer, known(store, featurizer)) for featurizer in (POOLED, view)])
    plain = np.setdiff1d(np.arange(30), [0, 2, 4, 5, *rejected])
    assert np.flatnonzero(needs[:, 0]).tolist() == plain.tolist()
    assert np.flatnonzero(needs[:, 1]).tolist() == np.setdiff1d(split_up(30)["train"], [0, 1, *rejected]).tolist()


def test_work_comes_back_in_chunks(store: Store) -> None:
    examples = examples_of(np.zeros(1500, np.int32), {"train": np.arange(1500)})
    needs = np.random.default_rng(0).random((1500, 2)) < 0.4
    chunks = write_work(store, "run", examples, needs, [POOLED, POOLED], packed=False)
    rows = np.flatnonzero(needs.any(axis=1))
    read = [read_chunk(store, "run", number) for number in range(len(chunks))]
    assert chunks == [("", "1")] * len(read)
    assert [len(chunk.keys) for chunk in read] == [*[CHUNK] * (len(rows) // CHUNK), len(rows) % CHUNK]
    assert [key for chunk in read for key in chunk.keys] == [f"{row:06d}" for row in rows]
    assert {version for chunk in read for version in chunk.versions} == {"1"}
    assert (np.concatenate([chunk.hashes for chunk in read]) == examples.hashes[rows]).all()
    assert (np.concatenate([chunk.addresses for chunk in read]) == examples.addresses[rows]).all()
    assert (np.concatenate([chunk.needs for chunk in read]) == needs[rows]).all()
    assert read[0].hashes.dtype == np.uint64


@pytest.mark.parametrize(("values", "wanted"), [(1000, CHUNK), (2**20, 10), (2**22, 2), (2**23, 1), (2**28, 1)])
def test_a_chunk_has_a_bounded_size(values: int, wanted: int, store: Store) -> None:
    """Of all its features together."""
    featurizers = [
        Featurizer("pooled", 0, "float32", (values,), {}),
        Featurizer("at the cut", 0, "float16", (values,), {}),
    ]
    examples = examples_of(np.zeros(600, np.int32), {"train": np.arange(600)})
    chunks = write_work(store, "run", examples, np.ones((600, 2), np.bool_), featurizers, packed=False)
    sizes = [len(read_chunk(store, "run", number).keys) for number in (0, len(chunks) - 1)]
    assert sizes == [wanted, 600 - wanted * (len(chunks) - 1)]
    assert wanted == 1 or wanted * values * 6 <= CHUNK_BYTES


def test_a_chunk_is_of_one_packed_file(store: Store) -> None:
    counts = {"b/1.tar": 300, "a.tar": 5, "c d#.tar": 256, "0.tar": 1}
    keys = [f"{file}#{i:09d}" for file, count in counts.items() for i in range(count)]
    versions = [f"of {key.rpartition('#')[0]}" for key in keys]
    examples = examples_of(np.zeros(len(keys), np.int32), {"train": np.arange(len(keys))})
    table = pa.table({"key": keys, "version": versions, "label": ["a"] * len(keys)})
    needs = np.ones((len(keys), 1), np.bool_)
    needs[[0, 304]] = False
    chunks = write_work(store, "run", replace(examples, table=table), needs, [POOLED], packed=True)
    files = [file for file, _ in chunks]
    assert files == ["b/1.tar", "b/1.tar", "a.tar", "c d#.tar", "0.tar"]
    assert [version for _, version in chunks] == [f"of {file}" for file in files]
    for file, count in counts.items():
        chunk = read_chunks_of(store, "run", file)
        start = 1 if file == "b/1.tar" else 0
        end = 4 if file == "a.tar" else count
        assert chunk.keys == [f"{file}#{i:09d}" for i in range(start, end)]
        assert chunk.addresses.tolist() == examples.addresses[[keys.index(key) for key in chunk.keys]].tolist()
        assert len(chunk.hashes) == len(chunk.needs) == len(chunk.versions) == len(chunk.keys)
    store.delete(work_key("run"))


def test_the_data_set_comes_back_with_the_place_of_every_feature(store: Store) -> None:
    random, count = np.random.default_rng(0), 2000
    labels, splits = random.integers(0, 2, count).astype(np.int32), split_up(count)
    examples = replace(examples_of(labels, splits), rows=random.permutation(count))
    accepted = random.random(count) < 0.95
    cut = featurizer_of("block_15_add", np.zeros((1, 2, 2, 4), np.float16))
    featurizers = [POOLED, replace(POOLED, view=1), cut, replace(cut, view=1)]
    for featurizer in featurizers:
        foreign = np.array([address_of("other", f"{i}", "1") for i in range(50)], ADDRESS)
        write_part(store, featurizer, foreign, values_of(featurizer, 50))
        for numbers in np.array_split(random.permutation(np.flatnonzero(accepted)), 9):
            write_part(store, featurizer, examples.addresses[numbers], values_of(featurizer, len(numbers)))
    found = [(featurizer, known(store, featurizer)) for featurizer in featurizers]
    write_dataset(store, "run", CLASSES, examples, accepted, found[:2], found[2:])
    data = load_dataset(store, "run", CLASSES, "auto")
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
    assert load_dataset(store, "run", CLASSES, None).id == data.id


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


def test_auto_class_weights_make_classes_count_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weight_vector("auto", ["a", "b"], labels)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weight_vector({"b": 3.0}, ["a", "b"], labels).tolist() == [1, 3]
