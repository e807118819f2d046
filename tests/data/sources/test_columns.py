"""Tables as spreadsheets and programs write them, and what is said of files that are none."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.data.sources.columns import NoTable, read_columns
from job.data.sources.headings import NoColumn, place_of
from support.fuzz_tables import workbook

ROWS = [("kät/1.jpg", "cat"), ("dog, 2.jpg", 'the "dog"\nof two lines'), ("3.jpg", "")]
WANTED = ["key", "label"]


def read(content: bytes, name: str = "labels.csv", encoding: str | None = None) -> tuple[list[tuple[str, str]], str]:
    def choose(headings: list[str]) -> list[int]:
        places = [place_of(name, headings) for name in WANTED]
        if None in places:
            raise NoColumn(headings)
        return [place for place in places if place is not None]

    found = read_columns(content, name, encoding, expected=WANTED, choose=choose)
    return list(zip(*(column.to_pylist() for column in found.values), strict=True)), " ".join(found.notes)


def written(delimiter: str = ",", end: str = "\n", header: str = "key{0}label") -> str:
    cells = [[f'"{cell}"' for cell in (key, label.replace('"', '""'))] for key, label in ROWS]
    return end.join([header.format(delimiter), *map(delimiter.join, cells)]) + end


def zipped(*names: str, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_delimiter_and_line_end(delimiter: str, end: str) -> None:
    assert read(written(delimiter, end).encode()) == (ROWS, "")


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\n" + written(";"),
        "\n\n" + written(),
        written() + ",\n",
        written().replace('",', '", '),
        written(header=" Key {0}LABEL"),
        written().replace("key,label", "more,key,label").replace('\n"', '\n7,"').replace('7,"of two', '"of two'),
    ],
    ids=["separator line", "blank lines", "blank row", "spaced", "header in another case", "another column first"],
)
def test_what_spreadsheets_and_people_add(content: str) -> None:
    assert read(content.encode())[0] == ROWS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(encoding: str) -> None:
    assert read(written().encode(encoding)) == (ROWS, "")
    assert read(written().encode(encoding), encoding="cp1252") == (ROWS, "")


@pytest.mark.parametrize(
    ("encoding", "told"), [("cp1252", "Windows-1252"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")]
)
def test_an_encoding_that_is_guessed_is_said(encoding: str, told: str) -> None:
    rows, note = read(written().encode(encoding))
    assert rows == ROWS
    assert note.startswith("is not UTF-8: it was read as " + told)
    assert read(written().encode(encoding), encoding=encoding) == (ROWS, "")


def test_utf8_that_is_read_as_something_else_is_said() -> None:
    rows, note = read(written().encode(), encoding="cp1252")
    assert (rows == ROWS, note[:41]) == (False, "looks like UTF-8 and was read as cp1252 (")
    assert read(b"key,label\na,b\n", encoding="cp1252")[1] == ""


def test_an_encoding_that_is_none_of_western_europe_has_to_be_named() -> None:
    content = "key,label\n1.jpg,кошка\n".encode("cp1251")
    with pytest.raises(NoTable, match=r"set data\.encoding"):
        read(content)
    assert read(content, encoding="cp1251")[0] == [("1.jpg", "кошка")]


def test_an_encoding_that_does_not_fit_is_told_with_its_line() -> None:
    with pytest.raises(NoTable, match=r"is not written in shift_jis \(line 2\)"):
        read(b"key,label\n\x81", encoding="shift_jis")


PACKERS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": lambda c: pa_zstd(c)}


def pa_zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_table_is_known_by_its_bytes(packer: str) -> None:
    packed = PACKERS[packer](written().encode())
    assert read(packed, "labels.csv") == (ROWS, "")
    with pytest.raises(NoTable, match="can't be unpacked"):
        read(packed[:-9])


def test_a_zip_archive_of_one_table_is_read_and_one_of_two_is_told() -> None:
    assert read(zipped("labels.csv", "__MACOSX/._labels.csv", content=written().encode())) == (ROWS, "")
    with pytest.raises(NoTable, match=r"is a ZIP archive of 2 files: a\.csv, b\.csv"):
        read(zipped("a.csv", "b.csv"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf \n", "is empty"),
        (workbook(), "is an Excel workbook, or another Office document. A table is CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a PNG picture"),
        (b"BMI,key,label\na.jpg\n", "can't be read: line 2 has 1 cells"),
        (b"key,label\na.jpg,cat\nb.jpg\n", "line 3 has 1 cells, and the header 2"),
        (b'key,label\n"a\nb.jpg",cat\nc.jpg,dog,3\n', "line 4 has 3 cells"),
        (b'key,label\n"a.jpg,cat\nb.jpg,dog\n', "line 3: unexpected end of data"),
        (b'key,label\n"a" b,cat\n', "line 2: ',' expected after"),
        (b"PAR1 and nothing else", "is a Parquet file that can't be read"),
        (b"<!DOCTYPE html>\n<p>key,label", "is an HTML page"),
        (b"{\\rtf1 nothing", "is an RTF document. A table is CSV"),
        (b'{"key": "a", "label": "b"}\n{"key": ', "line 2 is no JSON"),
        (b'{"key": "a", "label": "b"}\n[1]\n', "line 2 is no object"),
        (b'{"key": "a", "label": ["b"]}\n', "the column 'label' holds no text: a value is a list .*line 1"),
        (b'{"rows": [{"key": "a"}],\n"n": 1}', "the list 'rows' in it may be what is meant"),
        (b'{"key": ["a"], "label": []}', "do not have the same rows"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_table_is_told(content: bytes, told: str) -> None:
    with pytest.raises(NoTable, match=told):
        read(content, "labels.json" if content[:1] == b"[" else "labels.csv")


def test_quoted_line_breaks_do_not_depend_on_size() -> None:
    rows = [(f"{number}.jpg", "a line\n" * 2000) for number in range(200)]
    content = "key,label\n" + "".join(f'{key},"{label}"\n' for key, label in rows)
    assert read(content.encode())[0] == rows


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_quote_that_swallows_rows_is_told(delimiter: str) -> None:
    rows = ["a.jpg,cat", "b.jpg,dog", '"c.jpg,cat', 'd.jpg",dog', "e.jpg,cat"]
    with pytest.raises(NoTable, match="line 5: a quoted cell ends here whose lines would be rows of their own"):
        read("\n".join(["key,label", *rows]).replace(",", delimiter).encode())
    text = ["a.jpg,cat", '"two, or more\nthree, or four",cat']
    assert len(read("\n".join(["key,label", *text]).replace(",", delimiter).encode())[0]) == 2


JSON = {
    "lines": "\n".join(json.dumps({"key": key, "label": label}) for key, label in ROWS),
    "list": json.dumps([{"key": key, "label": label} for key, label in ROWS]),
    "pretty list": json.dumps([{"key": key, "label": label} for key, label in ROWS], indent=1),
    "columns": json.dumps({"key": [key for key, _ in ROWS], "label": [label for _, label in ROWS]}),
    "columns of pandas": json.dumps(
        {name: {str(at): row[place] for at, row in enumerate(ROWS)} for place, name in enumerate(("key", "label"))}
    ),
}


@pytest.mark.parametrize("form", JSON)
@pytest.mark.parametrize("name", ["labels.json", "labels.jsonl", "labels.txt"])
def test_json_in_every_form(form: str, name: str) -> None:
    assert read(JSON[form].encode(), name) == (ROWS, "")
    assert read(gzip.compress(JSON[form].encode("utf-8-sig")), f"{name}.gz")[0] == ROWS


def test_values_of_json_are_named_like_those_of_parquet() -> None:
    values = [1.0, 2, 0.5, True, None, float("nan"), "x"]
    lines = "\n".join(json.dumps({"key": str(at), "label": value}) for at, value in enumerate(values))
    labels = [label for _, label in read(lines.encode(), "l.jsonl")[0]]
    assert labels == ["1", "2", "0.5", "true", None, None, "x"]
    for column, names in (
        (pa.array([1.0, 0.0, float("nan"), None]), ["1", "0", None, None]),
        (pa.array([True, False, None, None]), ["true", "false", None, None]),
        (pa.array(["a", "", None, "b"]), ["a", "", None, "b"]),
    ):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"key": ["1", "2", "3", "4"], "label": column}), buffer)
        assert [label for _, label in read(buffer.getvalue(), "labels.csv")[0]] == names


def test_a_column_of_parquet_without_names_is_told() -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"key": ["1"], "label": [[1]]}), buffer)
    with pytest.raises(NoTable, match=re.escape("has a column 'label' that holds no text")):
        read(buffer.getvalue())


def test_a_name_finds_the_only_column_that_differs_in_blanks_case_or_unicode() -> None:
    assert place_of("label", ["label", "Label "]) == 0
    assert place_of("label", ["key", "\u00a0LABEL"]) == 1
    assert place_of("größe", ["Gro\u0308ße".upper()]) is None or place_of("größe", ["gro\u0308ße"]) == 0
    assert place_of("label", ["Label", "LABEL"]) is None
    assert place_of("label", ["label", "label"]) is None
    assert place_of("label", ["labels"]) is None
