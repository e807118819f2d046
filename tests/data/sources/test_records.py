from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from job.config import Data
from job.data.sources.packed import records_of
from job.data.sources.records import Record
from job.data.sources.webdataset import JOINED
from job.errors import DataError
from support import shards

ROWS = shards.examples(20)


def data(layout: str, source: str = "file:///source/", **packed: str) -> Data:
    return Data(source=source, layout=layout, packed=packed or None)


def read(content: bytes, layout: str, **packed: str) -> list[Record]:
    return list(records_of(pa.BufferReader(content), data(layout, **packed), "file:///source/shard"))


def usable(records: list[Record]) -> list[shards.Example]:
    return [(record.encoded, str(record.label)) for record in records if record.reject is None]


def rejects(records: list[Record]) -> list[tuple[int | None, str]]:
    return [(record.position, record.reject) for record in records if record.reject is not None]


@pytest.mark.parametrize("form", shards.MAKERS)
def test_records_come_in_their_order_with_the_bytes_that_were_written(form: str) -> None:
    layout, _, make = shards.MAKERS[form]
    records = read(make(ROWS), layout)
    assert [record.position for record in records] == list(range(20))
    assert usable(records) == ROWS
    assert read(make([]), layout) == []


@pytest.mark.parametrize("form", ["webdataset", "tfrecord"])
def test_a_shard_cut_anywhere_gives_the_whole_records_before_the_cut(form: str) -> None:
    layout, _, make = shards.MAKERS[form]
    content = make(ROWS[:4])
    whole = len(content) if form == "tfrecord" else len(content.rstrip(b"\0")) + 512
    seen = set()
    for cut in [*range(1, whole, 97), whole - 1]:
        records = read(content[:cut], layout)
        good = usable(records)
        assert good == ROWS[: len(good)]
        reason = f"truncated after record {len(good) - 1}" if good else "truncated before its first record"
        assert rejects(records) == [(None, reason)]
        seen.add(len(good))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [10, 4000, 60_000])
def test_a_parquet_file_without_its_end_is_one_reject(size: int) -> None:
    ((position, reason),) = rejects(read(shards.plain_parquet_of(ROWS)[:size], "parquet"))
    assert position is None
    assert reason.startswith("corrupt (")
    assert reason.endswith("before its first record")


def test_a_broken_row_group_of_a_parquet_file_is_rejected_row_by_row() -> None:
    content = bytearray(shards.plain_parquet_of(ROWS))
    at = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(1).data_page_offset
    content[at : at + 10] = bytes(10)
    records = read(bytes(content), "parquet")
    assert [position for position, _ in rejects(records)] == list(range(7, 14))
    assert {reason.split(" (")[0] for _, reason in rejects(records)} == {"corrupt"}
    assert usable(records) == ROWS[:7] + ROWS[14:]


def test_a_tar_file_with_a_broken_header_or_a_hole_says_so() -> None:
    content = bytearray(shards.webdataset_of(ROWS))
    at = content.index(b"00007.cls")
    for damage, told in ((b"\1" * 100, "corrupt (bad checksum)"), (bytes(512), f"corrupt ({JOINED})")):
        broken = content[:at] + damage + content[at + len(damage) :]
        records = read(bytes(broken), "webdataset")
        assert rejects(records)[-1] == (None, f"{told} after record {len(records) - 2}")
        assert usable(records)[:6] == ROWS[:6]


def test_a_tfrecord_with_a_wrong_checksum_is_rejected_alone() -> None:
    content = bytearray(shards.usual_tfrecord_of(ROWS[:4]))
    at = content.index(ROWS[1][0])
    content[at + 100] ^= 1
    records = read(bytes(content), "tfrecord")
    assert rejects(records) == [(1, "the record's checksum is wrong")]
    assert usable(records) == [ROWS[0], *ROWS[2:4]]
    content[0] ^= 1
    assert rejects(read(bytes(content), "tfrecord")) == [
        (None, "corrupt (the checksum of a length is wrong) before its first record")
    ]


def test_a_record_without_image_or_label_is_a_reject_of_its_class() -> None:
    image, label = ROWS[0]
    tar = shards.tar_of({"a.png": image, "b.cls": b"7", "c.x.png": image, "c.x.cls": b"1", "d.jpg": b"", "d.cls": b""})
    assert rejects(read(tar, "webdataset")) == [
        (0, "no label (cls)"),
        (1, "no image (jpg;jpeg;png;webp;gif;bmp;tif;tiff)"),
        (3, "empty label"),
    ]
    assert read(tar, "webdataset")[1].label == "7"
    assert usable(read(tar, "webdataset", image="x.png", label="x.cls")) == [(image, "1")]
    images = pa.array(
        [{"bytes": None, "path": "x"}, None, {"bytes": image, "path": None}, {"bytes": image, "path": None}]
    )
    table = shards.parquet_of({"image": images, "label": ["a", "b", None, "c"]})
    assert rejects(read(table, "parquet")) == [
        (0, "image is not in the file, only its path (data.layout: table reads pictures by their paths)"),
        (1, "no image (image)"),
        (2, "no label (label)"),
    ]
    examples = [{"image/encoded": image}, {"image": image, "image/class/label": 1}, {"image/encoded": 3}, {}]
    assert rejects(read(shards.tfrecord_of(examples), "tfrecord")) == [
        (0, "no label (image/class/label)"),
        (1, "no image (image/encoded) (nearest: 'image')"),
        (2, "image is a number"),
        (3, "no image (image/encoded)"),
    ]
    assert label == "green"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pa.array([3, 10], pa.uint8()), ["3", "10"]),
        (pa.array([1.0, 0.5]), ["1", "0.5"]),
        (pa.array([b"a", "ä".encode()]), ["a", "ä"]),
        (pa.array(["b", "c"]).dictionary_encode(), ["b", "c"]),
        (pa.array([True, False]), ["true", "false"]),
    ],
    ids=str,
)
def test_a_label_of_any_kind_becomes_a_name(labels: pa.Array, names: list[str]) -> None:
    table = shards.parquet_of({"image": [b"x", b"y"], "label": labels})
    assert [record.label for record in read(table, "parquet")] == names


def test_text_that_is_no_text_is_rejected_alone() -> None:
    labels = pa.array([b"a", b"\xff", b"b"]).view(pa.string())
    records = read(shards.parquet_of({"image": [b"x"] * 3, "label": labels}), "parquet")
    assert rejects(records) == [(1, "label is not UTF-8")]


def test_labels_of_a_tfrecord_become_names() -> None:
    values: list[Any] = [7, b"cat", 2.0, [1, 2], b"\xff"]
    examples = [{"image": b"x", "label": value, "patient": 5} for value in values]
    records = read(shards.tfrecord_of(examples), "tfrecord", image="image", label="label", group="patient")
    assert [record.label for record in records[:3]] == ["7", "cat", "2"]
    assert rejects(records) == [(3, "label has 2 values"), (4, "label is not UTF-8")]
    assert {record.group for record in records} == {"5"}


def test_files_that_are_no_record_of_an_archive_take_no_position() -> None:
    image = ROWS[0][0]
    names = ["./.DS_Store", "./._0.png", "LICENSE", "./a/0.png", "./a/0.cls", "b.c/1.cls", "b.c/1.jpeg"]
    tar = shards.tar_of({name: b"x" if name.endswith(".cls") else image for name in names})
    assert [(record.position, record.label) for record in read(tar, "webdataset")] == [(0, "x"), (1, "x")]


def test_what_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ROWS[0], (bytes(100_000), "red"), ROWS[2]]
    for layout in ("webdataset", "tfrecord"):
        monkeypatch.setattr(f"job.data.sources.{layout}.LONGEST", 50_000)
        records = read(shards.MAKERS[layout][2](rows), layout)
        assert rejects(records) == [(1, "longer than 268435456 bytes")]
        assert usable(records) == [rows[0], rows[2]]


@pytest.mark.parametrize("form", shards.MAKERS)
def test_a_fault_of_the_storage_is_not_taken_for_a_broken_shard(form: str) -> None:
    layout, _, make = shards.MAKERS[form]

    class Fails(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 30_000 or (size or 0) > 60_000:
                raise OSError("the network is down")
            return super().read(min(size, 20_000) if size and size > 0 else 20_000)

    with pytest.raises(OSError, match="the network is down"):
        list(records_of(Fails(make(ROWS)), data(layout), "uri"))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (
            {"image": "imge"},
            r"data.packed.image: uri has no column 'imge' \(nearest: 'image'\); it has image, label, n",
        ),
        ({"label": "class"}, r"data.packed.label: uri has no column 'class'; it has image, label, n"),
        ({"group": "patient"}, r"data.packed.group: uri has no column 'patient'"),
        ({"image": "label"}, r"has a column 'label' of string: name one of binary, or of structs with `bytes`"),
        ({"label": "n"}, r"has a column 'n' of list<element: int64>: name one of text or numbers"),
    ],
)
def test_a_column_that_cannot_be_used_is_explained(packed: dict[str, str], message: str) -> None:
    table = shards.parquet_of({"image": [b"x"], "label": ["a"], "n": [[1]]})
    with pytest.raises(DataError, match=message):
        list(records_of(pa.BufferReader(table), data("parquet", **packed), "uri"))
