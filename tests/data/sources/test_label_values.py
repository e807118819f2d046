from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from job.data.sources.label_values import NoName, name_of, names_of

NAMES = [
    ("cat", "cat"),
    ("", ""),
    ("1.0", "1.0"),
    ("größe".encode(), "größe"),
    (7, "7"),
    (1.0, "1"),
    (-0.0, "0"),
    (0.5, "0.5"),
    (np.float32(0.33), "0.33"),
    (1e20, "100000000000000000000"),
    (float("inf"), "inf"),
    (Decimal("2.00"), "2"),
    (Decimal("1.50"), "1.50"),
    (True, "true"),
    (np.False_, "false"),
    (datetime.date(2026, 1, 31), "2026-01-31"),
    (None, None),
    (float("nan"), None),
]


@pytest.mark.parametrize(("value", "name"), NAMES, ids=repr)
def test_a_value_has_one_name(value: Any, name: str | None) -> None:
    assert name_of(value) == name


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xff", "is not UTF-8"),
        ("\ud800", "is not UTF-8"),
        ([1, 2], "is a list (2 values)"),
        ({"id": 1, "name": "x"}, "is an object (id, name)"),
        ({}, "is an object (empty)"),
    ],
)
def test_what_is_no_name_says_what_it_is(value: Any, said: str) -> None:
    with pytest.raises(NoName) as raised:
        name_of(value)
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pa.array([1.0, None, float("nan"), 0.5]), ["1", None, None, "0.5"]),
        (pa.array([0.33, 1, None], pa.float32()), ["0.33", "1", None]),
        (pa.array([0.5, 2], pa.float16()), ["0.5", "2"]),
        (pa.array([3, None], pa.uint8()), ["3", None]),
        (pa.array([True, None]), ["true", None]),
        (pa.array(["a", "b", None, "a"]), ["a", "b", None, "a"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array(["a", "b", None, "a"]).dictionary_encode(), ["a", "b", None, "a"]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
        (pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode()]), ["a", "b"]),
        (pa.array([1], pa.timestamp("ns")), ["1970-01-01 00:00:00.000000001"]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
    ],
    ids=lambda value: str(value.type) if hasattr(value, "type") else "",
)
def test_a_column_has_the_names_of_its_values(column: pa.Array, names: list[str | None]) -> None:
    assert names_of(column).to_pylist() == names


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1]]), "is of a kind that can't be a name"),
        (pa.array([{"a": 1}]), "is of a kind that can't be a name"),
        (pa.array([b"a", b"\xff"]).view(pa.string()), "is not UTF-8"),
    ],
)
def test_a_column_without_names_says_why(column: pa.Array, said: str) -> None:
    with pytest.raises(NoName, match=said):
        names_of(column)
