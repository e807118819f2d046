"""Texts in a table: CSV, Parquet and JSON lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.config import Data, Table
from job.data.items import Listed
from job.data.sources.table import object_reader, read_table, text_version
from job.errors import DataError, ObjectMissing
from job.storage import open_store
from support.listed import list_items

ROWS = [("Cats purr.", "cat"), ('Two\nlines, "quoted"', "dog"), ("Dogs bark.", "dog")]


def csv_of(rows: list[tuple[str, str]]) -> bytes:
    quoted = [[f'"{cell}"' for cell in (text.replace('"', '""'), label)] for text, label in rows]
    return "\n".join(["body,kind", *map(",".join, quoted)]).encode() + b"\n"


def parquet_of(rows: list[tuple[str, str]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"body": [text for text, _ in rows], "kind": [label for _, label in rows]}), buffer)
    return buffer.getvalue()


def lines_of(rows: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"body": text, "kind": label}) + "\n" for text, label in rows).encode()


FORMATS = {"texts.csv": csv_of, "texts.parquet": parquet_of, "texts.jsonl": lines_of}


def data_of(folder: Path, file: str, content: bytes, **table: str) -> Data:
    store = open_store(f"file://{folder}/")
    store.write(file, content)
    spec = {"file": file, "text": "body", "label": "kind", **table}
    return Data.model_validate({"source": store.uri, "layout": "table", "table": spec})


def listed(data: Data) -> list[Listed]:
    return list_items(data, open_store(data.source))


def test_a_column_says_the_split(tmp_path: Path) -> None:
    sides = ["TEST", "train", "Val", "fold 1", ""]
    rows = "".join(f"text {number},cat,{side}\n" for number, side in enumerate(sides))
    found = listed(data_of(tmp_path, "texts.csv", f"body,kind,part\n{rows}".encode(), split="part"))
    good, bad = ([item for item in found if (item.reject is None) is wanted] for wanted in (True, False))
    assert sorted(item.split or "" for item in good) == ["test", "train", "validation"]
    assert sorted(str(item.reject) for item in bad) == [
        "its split ('fold 1') is none of train, validation, test",
        "its split is none of train, validation, test",
    ]
    assert [item.label for item in bad] == [None] * 2


@pytest.mark.parametrize(("file", "write"), FORMATS.items(), ids=FORMATS)
def test_an_example_is_its_text(file: str, write: object, tmp_path: Path) -> None:
    data = data_of(tmp_path, file, write(ROWS))
    found = listed(data)
    assert {item.key: item.label for item in found} == {text_version(text): label for text, label in ROWS}
    read = object_reader(data, open_store(data.source))
    assert {read(item.key, item.version).decode() for item in found} == {text for text, _ in ROWS}
    assert [item.key for item in found] == sorted(item.key for item in found)


def test_what_is_there_twice_counts_once_and_contradictions_not_at_all(tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], ("Dogs bark.", "cat"), ("", "cat"), ("No label.", "")]
    found = {item.key: item for item in listed(data_of(tmp_path, "texts.csv", csv_of(rows)))}
    assert len(found) == 5
    assert found[text_version(ROWS[0][0])].reject is None
    assert found[text_version("Dogs bark.")].reject == "there twice, with different labels or texts"
    assert found[text_version("No label.")].reject == "no label"
    assert found[text_version("")].size == 0


def test_a_column_may_name_the_rows(tmp_path: Path) -> None:
    content = b"key,body,kind,who\n2,b b,x,eve\n1,a a,y,bob\n3,a a,x,bob\n"
    data = data_of(tmp_path, "texts.csv", content, group="who")
    assert [(item.key, item.label, item.group) for item in listed(data)] == [
        ("1", "y", "bob"),
        ("2", "x", "eve"),
        ("3", "x", "bob"),
    ]
    other = data_of(tmp_path, "texts.csv", content, key="body")
    assert [item.reject for item in listed(other)] == ["there twice, with different labels or texts", None]


def test_a_text_that_was_changed_since_is_not_read_as_what_was_listed(tmp_path: Path) -> None:
    data = data_of(tmp_path, "texts.csv", b"key,body,kind\n1,one,x\n2,two,y\n")
    first, second = listed(data)
    data_of(tmp_path, "texts.csv", b"key,body,kind\n1,other,x\n")
    read = object_reader(data, open_store(data.source))
    for item in (first, second):
        with pytest.raises(ObjectMissing):
            read(item.key, item.version)


def test_a_text_of_a_million_words_is_one_cell(tmp_path: Path) -> None:
    text = "some words " * 500_000
    for file, write in FORMATS.items():
        sizes = {item.size for item in listed(data_of(tmp_path, file, write([(text, "long"), *ROWS])))}
        assert len(text) in sizes


def test_where_there_is_no_label_file_those_that_may_be_meant_are_named(tmp_path: Path) -> None:
    data = data_of(tmp_path, "train.csv.gz", csv_of(ROWS))
    data_of(tmp_path, "a.jpg", b"x")
    missing = data.model_copy(update={"table": Table(file="labels.csv")})
    with pytest.raises(DataError, match=r"there is no label file .*/labels\.csv; there is train\.csv\.gz"):
        listed(missing)


def test_a_text_is_read_in_what_its_table_is_written_in(tmp_path: Path) -> None:
    content = "body,kind\nGröße,a\n".encode("cp1252")
    for changes in ({}, {"encoding": "cp1252"}):
        data = data_of(tmp_path, "texts.csv", content).model_copy(update=changes)
        (item,) = listed(data)
        assert object_reader(data, open_store(data.source))(item.key, item.version) == "Größe".encode()


def test_a_row_of_texts_without_a_key_is_a_reject(tmp_path: Path) -> None:
    found = listed(data_of(tmp_path, "texts.csv", b"key,body,kind\n,one,x\n2,two,y\n", key="key"))
    assert [(item.key, item.reject) for item in found] == [("", "a row of the label file without a key"), ("2", None)]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("texts.csv", b"text,kind\na,b\n", "data.table.text: .* has no column 'body'; it has text, kind.$"),
        ("texts.csv", b"a,b\nc,d\n", "it has a, b. The first row has to name the columns"),
        ("texts.csv", b"body,kinds\na,b\n", r"data.table.label: .* has no column 'kind' \(nearest: 'kinds'\)"),
        ("texts.csv", b"body,kind\n\x81\xe9\x9d,b\n", "is not UTF-8, and what it is written in can't be told"),
        ("texts.jsonl", b'{"body": "a", "kind": "b"}\nno json\n', "can't be read: line 2 is no JSON"),
        ("texts.jsonl", b'{"body": {"a": 1}, "kind": "b"}\n', "the column 'body' holds no text: a value is an object"),
    ],
)
def test_a_table_that_can_not_be_read(file: str, content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        listed(data_of(tmp_path, file, content))


def test_a_column_that_says_no_split_is_told(tmp_path: Path) -> None:
    data = data_of(tmp_path, "texts.csv", b"body,kind,part\na,cat,0\nb,cat,1\n", split="part")
    with pytest.raises(DataError, match=r"has '0', '1' in the column 'part' .data.table.split., and none of train"):
        listed(data)


def test_no_value_is_no_group(tmp_path: Path) -> None:
    data = data_of(tmp_path, "texts.csv", b"body,kind,who\na,cat,nan\nb,cat,\nc,cat,x\n", group="who")
    table = read_table(data, open_store(data.source))
    assert sorted(table.rows["group"].to_pylist()) == ["", "", "x"]
    assert "values of data.table.group such as 'nan' in 1 of 3 rows, which count as none" in table.notes[0]


def test_a_column_of_json_may_be_a_field_of_a_field(tmp_path: Path) -> None:
    lines = b'{"body": "a", "kind": {"name": "cat"}}\n{"body": "b", "kind": {"name": "dog"}}\n'
    assert [item.label for item in listed(data_of(tmp_path, "a.jsonl", lines, label="kind.name"))] == ["cat", "dog"]
    with pytest.raises(DataError, match=r"a value is an object .*name a field of it, such as kind.name"):
        listed(data_of(tmp_path, "a.jsonl", lines))
