"""Parquet files as others write them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.data.sources import parquet
from job.errors import DataError
from support import shards
from support.packed import labels, read, rejects

IMAGE = shards.examples(1)[0][0]


def hugging_face(values: Any, features: dict[str, Any], column: str = "label") -> bytes:
    images = [{"bytes": IMAGE, "path": None}] * len(values)
    table = pa.table({"image": images, column: values})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer)
    return buffer.getvalue()


CLASS_LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def test_the_names_of_class_labels_are_used() -> None:
    records = read(hugging_face([1, 0, -1, None, 2], {"label": CLASS_LABEL}), "parquet")
    assert labels(records) == ["dog", "cat"]
    assert rejects(records) == [
        (2, "no label (label)"),
        (3, "no label (label)"),
        (4, "label is a number without a name in the file's schema"),
    ]
    beside_nulls = hugging_face(pa.array([1.0, None, -1.0, float("nan")]), {"label": CLASS_LABEL})
    assert [record.label for record in read(beside_nulls, "parquet")] == ["dog", None, None, None]
    nested = hugging_face([{"kind": 1}], {"objects": {"kind": CLASS_LABEL}}, "objects")
    assert labels(read(nested, "parquet", label="objects.kind")) == ["dog"]


def test_two_numbers_of_one_name_are_an_error() -> None:
    content = hugging_face([1, 0], {"label": {"names": ["cat", "cat"], "_type": "ClassLabel"}})
    with pytest.raises(DataError, match=r"calls two numbers 'cat'.*data\.packed\.names"):
        read(content, "parquet")
    assert labels(read(content, "parquet", names=["a cat", "the cat"])) == ["1", "0"]


@pytest.mark.parametrize("features", [{}, {"label": {"_type": "Value"}}, {"label": 3}, {"label": {}}])
def test_other_metadata_leaves_labels_as_they_are(features: dict[str, Any]) -> None:
    assert labels(read(hugging_face([1, 0], features), "parquet")) == ["1", "0"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pa.array([1.0, float("nan"), None, 0.5]), ["1", None, None, "0.5"]),
        (pa.array([0.33, 1.0], pa.float32()), ["0.33", "1"]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array([True, False]), ["true", "false"]),
        (pa.array(np.array(["2026-01-31"], "datetime64[D]")), ["2026-01-31"]),
    ],
    ids=str,
)
def test_a_label_is_called_what_it_is_called_elsewhere(values: pa.Array, names: list[str | None]) -> None:
    records = read(shards.parquet_of({"image": [IMAGE] * len(values), "label": values}), "parquet")
    assert [record.label for record in records] == names
    assert rejects(records) == [(at, "no label (label)") for at, name in enumerate(names) if name is None]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_images_may_be_bytes_of_any_kind(kind: pa.DataType) -> None:
    for images in (pa.array([IMAGE], kind), pa.array([{"bytes": IMAGE}], pa.struct([("bytes", kind)]))):
        (record,) = read(shards.parquet_of({"image": images, "label": ["a"]}), "parquet")
        assert (record.encoded, record.label) == (IMAGE, "a")


def test_a_dictionary_of_images_is_read() -> None:
    images = pa.array([IMAGE, b"", IMAGE]).dictionary_encode()
    records = read(shards.parquet_of({"image": images, "label": ["a", "b", "c"]}), "parquet")
    assert [record.encoded for record in records] == [IMAGE, b"", IMAGE]


def test_large_images_are_in_memory_by_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = shards.parquet_of({"image": [np.random.bytes(10_000) for _ in range(64)], "label": ["a"] * 64}, 64)
    monkeypatch.setattr(parquet, "ROWS_BYTES", 50_000)
    sizes, images = [], parquet._images
    monkeypatch.setattr(parquet, "_images", lambda column: sizes.append(len(column)) or images(column))
    assert len(labels(read(content, "parquet"))) == 64
    assert max(sizes) <= 5


def test_columns_in_columns_have_paths() -> None:
    nested = [{"raw": {"bytes": IMAGE}, "label.name": "cat"}, None]
    content = shards.parquet_of({"a.b": [IMAGE, None], "a": nested, "label": [1, 2]})
    assert read(content, "parquet", image="a.raw.bytes", label="a.label.name")[0].label == "cat"
    assert read(content, "parquet", image="a.raw")[0].encoded == IMAGE
    assert rejects(read(content, "parquet", image="a.b")) == [(1, "no image (a.b)")]


@pytest.mark.parametrize(
    ("columns", "packed", "said"),
    [
        (
            {"image": ["0.jpg"], "label": [1]},
            {},
            "'image' of string: .*the paths of pictures .*: table reads",
        ),
        ({"image": [{"path": "x"}], "label": [1]}, {}, "of struct<path: string>: .*data.layout: table reads those"),
        ({"image": [IMAGE], "label": [{"id": 1}]}, {}, r"or a field of it \(label.id\)"),
        ({"image": [IMAGE], "a": [{"label": 1}]}, {}, r"no column 'label' \(nearest: 'a.label'\)"),
        ({"image": [IMAGE], "label": [[1, 2]]}, {}, "of list<element: int64>: name one of text or numbers"),
    ],
)
def test_a_column_that_cannot_be_used_says_what_can(columns: Any, packed: dict[str, str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(shards.parquet_of(columns), "parquet", **packed)


def test_two_columns_of_one_name_are_an_error() -> None:
    table = pa.Table.from_arrays([pa.array([IMAGE]), pa.array([1]), pa.array([2])], ["image", "label", "label"])
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    with pytest.raises(DataError, match=r"data.packed.label: file:///source/shard has 2 columns 'label'"):
        read(buffer.getvalue(), "parquet")
