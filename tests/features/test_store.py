from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest

from job.errors import CorruptFeatures
from job.features.binary import from_binary, to_binary
from job.features.store import (
    ADDRESS,
    Featurizer,
    Part,
    address_bytes,
    address_of,
    describe,
    forget_file,
    ids_of,
    read_part,
    stored_features,
)
from job.features.workload import missing
from job.storage import Store, open_store
from support.stored import POOLED, examples_of, values_of, write_part


def addresses_of(*numbers: int) -> np.ndarray:
    return np.array([address_of("file:///s/", f"{number}", "1") for number in numbers], ADDRESS)


def store_pooled(store: Store, *numbers: int, **settings: object) -> Part:
    """Each value is the number of its example."""
    values = np.repeat(np.array(numbers, np.float32), 3).reshape(-1, 3)
    return write_part(store, POOLED, addresses_of(*numbers), values=values, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 4, 3)])
@pytest.mark.parametrize("tap", ["image", "pooled", "block_15_add"])
def test_a_part_comes_back_to_the_bit(dtype: str, shape: tuple[int, ...], tap: str, store: Store) -> None:
    featurizer = Featurizer(tap, 0, dtype, shape, {})
    whole = values_of(featurizer, 20)
    assert whole.nbytes == 20 * featurizer.bytes_per_example
    for values, numbers in ((whole[:9], range(9)), (whole[10::3], range(9, 13))):
        part = write_part(store, featurizer, addresses_of(*numbers), values=values)
        addresses, read = read_part(store, featurizer, part)
        assert (addresses == addresses_of(*numbers)).all()
        assert (read.dtype, read.shape) == (featurizer.storage, values.shape)
        assert read.tobytes() == values.tobytes()
        assert part.rows == len(values)


@pytest.mark.parametrize("start", [0, 4])
def test_a_column_is_read_from_where_its_chunk_begins(start: int) -> None:
    values = np.arange(30, dtype="<f4").reshape(10, 3)
    whole = pa.chunked_array([to_binary(values)])
    column = pa.table({"value": whole}).slice(start, 5)["value"]
    assert column.chunk(0).offset == start
    read = from_binary(column, values.dtype)
    assert (read == values[start : start + 5]).all()
    assert np.shares_memory(read, values)
    both = pa.chunked_array([*column.chunks, whole.slice(9).chunk(0)])
    assert (from_binary(both, values.dtype) == values[[*range(start, start + 5), 9]]).all()


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
    again = Featurizer.from_json(json.loads(json.dumps(asdict(first))))
    assert again == first
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
    assert stored_features(store, POOLED).parts == []
    part = store_pooled(store, 1, 2)
    assert stored_features(store, POOLED).parts == [part]
    marker = f"features/{POOLED.id}/{part.file}.json"
    whole = store.read(marker)
    store.write(marker, whole[:-1])
    assert stored_features(store, POOLED).find(addresses_of(1, 2))[0].tolist() == [-1, -1]
    store.delete(marker)
    assert stored_features(store, POOLED).find(addresses_of(1, 2))[0].tolist() == [-1, -1]
    assert store_pooled(store, 1, 2) == part
    assert store.read(marker) == whole
    assert stored_features(store, replace(POOLED, view=1)).parts == []


def test_markers_that_are_known_are_not_read_again(store: Store) -> None:
    rejects = [[(address, why)] for address, why in zip(address_bytes(addresses_of(6, 8)), "ab", strict=True)]
    old = [store_pooled(store, 1, 2), store_pooled(store, 5, rejects=rejects[0])]
    before = stored_features(store, POOLED)
    for part in old:  # whoever read them would find nothing
        store.write(f"features/{POOLED.id}/{part.file}.json", b"")
    new = [store_pooled(store, 3, 4), store_pooled(store, 7, rejects=rejects[1])]
    after = stored_features(store, POOLED, before)
    parts, rows = after.find(addresses_of(1, 2, 3, 4, 5, 6, 7))
    homes = [old[0], old[0], new[0], new[0], old[1], None, new[1]]
    assert [after.parts[part] if part >= 0 else None for part in parts] == homes
    assert rows.tolist() == [0, 1, 0, 1, 0, -1, 0]
    assert sorted(after.rejects.values()) == ["a", "b"]


def test_a_part_of_another_format_is_not_known(store: Store) -> None:
    part = store_pooled(store, 1)
    marker = f"features/{POOLED.id}/{part.file}.json"
    store.write(marker, json.dumps({**json.loads(store.read(marker)), "format": 1}).encode())
    assert stored_features(store, POOLED).parts == []


@pytest.mark.parametrize("change", ["gone", "cut short", "one bit", "another part"])
def test_a_part_that_is_not_what_was_written_is_named(change: str, store: Store) -> None:
    other, part = store_pooled(store, 5, 6, 7), store_pooled(store, 1, 2, 3)
    key = f"features/{POOLED.id}/{part.file}.arrow"
    content = store.read(key)
    if change == "gone":
        store.delete(key)
    elif change == "cut short":
        store.write(key, content[:-1])
    elif change == "one bit":
        store.write(key, content[:40] + bytes([content[40] ^ 1]) + content[41:])
    else:
        store.write(key, store.read(f"features/{POOLED.id}/{other.file}.arrow"))
    assert stored_features(store, POOLED).find(addresses_of(2))[0][0] >= 0
    with pytest.raises(CorruptFeatures, match=f"{store.uri}{key} is ") as caught:
        read_part(store, POOLED, part)
    travelled = pickle.loads(pickle.dumps(caught.value))
    assert (travelled.featurizer, travelled.file, str(travelled)) == (POOLED.id, part.file, str(caught.value))
    read_part(store, POOLED, other)


def test_what_came_changed_is_read_again_as_a_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checksum covers what comes of a range."""
    part, ranges = store_pooled(store, 1, 2, 3), list[str]()
    monkeypatch.setattr(store, "read_range", lambda key, *_: ranges.append(key) or b"something else")
    monkeypatch.setattr(store, "read", open_store(store.uri).read)
    assert (read_part(store, POOLED, part)[1] == np.repeat([[1], [2], [3]], 3, axis=1)).all()
    assert len(ranges) == 1


def test_forgetting_a_part_makes_its_examples_missing_again(store: Store) -> None:
    kept, part = store_pooled(store, 4), store_pooled(store, 1, 2)
    forget_file(store, POOLED.id, part.file)
    forget_file(store, POOLED.id, part.file)
    found = stored_features(store, POOLED)
    assert found.parts == [kept]
    assert found.find(addresses_of(1, 4, 2))[0].tolist() == [-1, 0, -1]
    assert store_pooled(store, 1, 2) == part
    assert (stored_features(store, POOLED).find(addresses_of(1, 4, 2))[0] >= 0).all()


def test_what_is_found_is_where_it_says(store: Store) -> None:
    """Examples that are stored, stored twice, or not at all, in any order."""
    random = np.random.default_rng(0)
    for numbers in np.split(random.permutation(400), 8):
        store_pooled(store, *numbers)
    store_pooled(store, *random.choice(400, 60, replace=False), 1000)
    found = stored_features(store, POOLED)
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
    part = write_part(
        store, POOLED, addresses[:4], values=np.zeros((4, 3), np.float32), rejects=[(texts[5], "not an image")]
    )
    assert (read_part(store, POOLED, part)[0] == addresses[:4]).all()
    found = stored_features(store, POOLED)
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
    found = stored_features(store, POOLED)
    assert found.rejects == {address: "not an image"}
    assert (found.find(addresses_of(*others))[0] >= 0).all()
    assert found.find(addresses_of(7))[0].tolist() == [-1]


def test_a_chunk_with_a_reject_and_the_same_without_are_two_parts(store: Store) -> None:
    (address,) = addresses_of(2).tolist()
    strict = store_pooled(store, 1, rejects=[(address, "not an image")])
    store_pooled(store, 1, 2)
    assert stored_features(store, POOLED).rejects == {address: "not an image"}
    assert read_part(store, POOLED, strict)[0].tolist() == addresses_of(1).tolist()


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no JSON", b'{"format": 0}'])
def test_what_is_no_marker_is_passed_over(content: bytes, store: Store) -> None:
    store_pooled(store, 1)
    store.write(f"features/{POOLED.id}/other.json", content)
    assert stored_features(store, POOLED).addresses.tolist() == addresses_of(1).tolist()


def test_the_bytes_of_addresses_are_sixteen_each() -> None:
    texts = [b"\1" * 16, b"\1" * 8 + b"\0" * 8, b"\0" * 16]
    assert address_bytes(np.array(texts, ADDRESS)) == texts
    assert address_bytes(np.array(texts * 2, ADDRESS)[::-2]) == [texts[2], texts[0], texts[1]]
    assert address_bytes(np.empty(0, ADDRESS)) == []
