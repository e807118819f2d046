"""Archives as others write them: labels in JSON, names with dots, links, and what systems put in."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import tarfile
import tracemalloc
from bz2 import compress as bzip2
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from job.config import Data
from job.data.snapshot import take_snapshot
from job.data.sources import webdataset
from job.data.sources.packed import index_key, list_shards, write_index
from job.data.sources.webdataset import NUMBERED
from job.errors import DataError
from job.storage import open_store
from support import shards
from support.packed import labels, read, rejects

EXAMPLES = shards.examples(20)
IMAGE = EXAMPLES[0][0]


def with_json(*documents: Any) -> bytes:
    files = {}
    for number, document in enumerate(documents):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        files |= {f"{number}.jpg": IMAGE, f"{number}.json": content}
    return shards.tar_of(files)


def linked(kind: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("a.jpg", IMAGE), ("a.cls", b"1"), ("b.jpg", None), ("b.cls", b"1")):
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = kind, "a.jpg"
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def test_a_label_and_a_group_may_be_fields_of_json() -> None:
    documents = [
        {"label": "cat", "a": {"b": 1.0, "c.d": "x"}, "Ill": [{"n": True}]},
        {"label": "dog", "a": {"b": 2, "c.d": "y"}},
    ]
    tar = with_json(*documents)
    for path, wanted in (("json.label", ["cat", "dog"]), ("json.a.b", ["1", "2"]), ("json.a.c.d", ["x", "y"])):
        assert labels(read(tar, "webdataset", label=path)) == wanted
    assert labels(read(tar, "webdataset", label="json.Ill.0.n")) == ["true"]
    assert [record.group for record in read(tar, "webdataset", label="json.label", group="json.a.b")] == ["1", "2"]
    assert labels(read(with_json("cat", 7, 1.0, True), "webdataset", label="json")) == ["cat", "7", "1", "true"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"lable": "x"}, "no label (json.label) (nearest: 'json.lable')"),
        ({"label": None}, "no label (json.label)"),
        ({"label": float("nan")}, "no label (json.label)"),
        ({"label": ""}, "empty label"),
        ({"label": ["a", "b"]}, "label is a list (2 values)"),
        ({"label": {"id": 3}}, "label is an object (id)"),
        ({"label": "\ud800"}, "label is not UTF-8"),
        ([1, 2], "no label (json.label)"),
        (b"{'label': 'cat'}", "json is no JSON (Expecting property name enclosed in double quotes)"),
        (b"\xff\xfe\xff", "json is no JSON"),
        (b"[" * 100_000, "json is no JSON (nested too deeply)"),
        (b'{"label": ' + b"1" * 5000 + b"}", "json is no JSON (Exceeds the limit"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_field_that_is_no_name_is_a_reject_of_its_record(document: Any, reason: str) -> None:
    records = read(with_json({"label": "cat"}, document), "webdataset", label="json.label")
    assert labels(records) == ["cat"]
    ((position, said),) = rejects(records)
    assert position == 1
    assert said.startswith(reason.removesuffix(")"))


@pytest.mark.parametrize(
    ("packed", "name", "shown"),
    [
        ({"label": "json"}, "json", "label: json.label."),
        ({"label": "json.meta"}, "json.meta", "label: json.meta.kind."),
        ({"label": "txt"}, "txt", "label: txt.label."),
        ({"label": "json.label", "group": "json"}, "json", "group: json.label."),
    ],
)
def test_an_object_where_a_name_is_wanted_names_its_fields(packed: dict[str, str], name: str, shown: str) -> None:
    document = json.dumps({"label": "cat", "id": 7, "meta": {"kind": "x"}}).encode()
    tar = shards.tar_of({"0.jpg": IMAGE, "0.json": document, "0.txt": document})
    with pytest.raises(
        DataError, match=rf"{name} is an object in file:///source/shard.*for example data.packed.{shown}"
    ):
        read(tar, "webdataset", **packed)


def test_captions_for_labels_are_no_classes(tmp_path: Path) -> None:
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    files = {f"{i}.{end}": content for i in range(30) for end, content in (("jpg", IMAGE), ("txt", b"cat %d" % i * 20))}
    source.write("a.tar", shards.tar_of(files))
    data = Data(source=source.uri, layout="webdataset", packed={"label": "txt"})
    (shard,) = list_shards(data, source)
    write_index(data, source, store, shard=shard.key, version=shard.version, key=index_key(data, source, shard))
    said = "30 examples have 30 different labels, such as 'cat 0cat 0.*…' and .*no classes. Look at data.packed.label"
    with pytest.raises(DataError, match=said):
        take_snapshot(data, source, store)


def test_a_name_ends_at_its_first_dot_where_that_gives_records() -> None:
    files = {
        f"{i}.{end}": content
        for i in range(3)
        for end, content in (("a.jpg", b"depth"), ("cls", b"%d" % i), ("jpg", IMAGE), ("seg.png", b"mask"))
    }
    records = read(shards.tar_of(files), "webdataset")
    assert labels(records) == ["0", "1", "2"]
    assert {record.encoded for record in records} == {IMAGE}
    assert [record.encoded for record in read(shards.tar_of(files), "webdataset", image="seg.png")] == [b"mask"] * 3


def test_a_name_ends_before_the_wanted_extension_where_the_first_dot_gives_none() -> None:
    files = {f"x/1.{i:03d}.{end}": content for i in range(200) for end, content in (("CLS", b"%d" % i), ("Jpg", IMAGE))}
    files |= {"2.cls": b"plain", "2.jpg": IMAGE, "v1.5_a.json": b"{}", "v1.5_a.jpg": IMAGE, "v1.5_a.cls": b"last"}
    records = read(shards.tar_of(files), "webdataset")
    assert rejects(records) == []
    assert labels(records) == [*map(str, range(200)), "plain", "last"]


@pytest.mark.parametrize("name", ["a", "a.1"])
def test_what_is_wanted_and_comes_again_begins_a_record_of_the_same_name(name: str) -> None:
    pictures = [image for image, _ in EXAMPLES[:3]]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, picture in enumerate(pictures):
            for end, content in (("jpg", picture), ("cls", b"%d" % number), ("txt", b"")):
                info = tarfile.TarInfo(f"{name}.{end}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    records = read(buffer.getvalue(), "webdataset")
    assert [(record.encoded, record.label) for record in records] == list(zip(pictures, "012", strict=True))


@pytest.mark.parametrize("content", [b"[0, 1]", b'["cat"]'])
def test_a_list_is_no_class(content: bytes) -> None:
    ((_, reason),) = rejects(read(shards.tar_of({"a.jpg": IMAGE, "a.cls": content}), "webdataset"))
    assert reason.startswith("label is a list")


@pytest.mark.parametrize("content", [b"\3" + bytes(7), "cat".encode("utf-16-le"), b"cat\ndog"])
def test_numbers_as_bytes_and_several_lines_are_no_class(content: bytes) -> None:
    ((_, reason),) = rejects(read(shards.tar_of({"a.jpg": IMAGE, "a.cls": content}), "webdataset"))
    assert reason.startswith("label is no text of one line")


def test_a_record_whose_name_goes_on_after_that_of_another_one_is_not_lost_in_silence() -> None:
    names = ("a.jpg", "a.cls", "a.1.jpg", "a.1.cls", "a.seg.jpg", "a.seg.cls", "b.jpg", "b.cls")
    records = read(shards.tar_of({name: IMAGE if name.endswith("jpg") else b"1" for name in names}), "webdataset")
    assert rejects(records) == [(1, f"image is {NUMBERED}")]
    assert len(labels(records)) == 2


def test_files_of_one_name_are_not_all_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "HELD_BYTES", 2**20)
    files = {f"1.{i}.{end}": bytes(size) for i in range(200) for end, size in (("jpg", 200_000), ("cls", 1))}
    content = pa.py_buffer(shards.tar_of(files))
    tracemalloc.start()
    names = webdataset.Packed(image="jpg", label="cls")
    assert sum(1 for _ in webdataset.read_webdataset(pa.BufferReader(content), names, "uri")) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_what_systems_put_in_an_archive_takes_no_position() -> None:
    names = [
        "._0.jpg",
        ".DS_Store",
        "__MACOSX/x/._0.jpg",
        "x/Thumbs.db",
        "x/desktop.ini",
        ".git/0.jpg",
        "x/.ipynb/a.jpg",
    ]
    files = dict.fromkeys(names, b"junk") | {"./x/0.jpg": IMAGE, "x/0.cls": b"a", "../1.JPG": IMAGE, "../1.Cls": b"b"}
    assert [(record.position, record.label) for record in read(shards.tar_of(files), "webdataset")] == [
        (0, "a"),
        (1, "b"),
    ]


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE], ids=["hard", "symbolic"])
def test_a_link_in_an_archive_says_that_its_bytes_are_not_there(kind: bytes) -> None:
    assert rejects(read(linked(kind), "webdataset")) == [(1, f"image is {webdataset.LINK}")]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read(form: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "x"}) as archive:
        for end, content in (("jpg", IMAGE), ("cls", "ä".encode())):
            info = tarfile.TarInfo(f"{'ordner' * 30}/größe.{end}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert labels(read(buffer.getvalue(), "webdataset")) == ["ä"]


def zstandard(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("compress", [gzip.compress, bzip2, lzma.compress, zstandard], ids=lambda f: f.__name__)
def test_a_compressed_archive_is_read_as_far_as_it_goes(compress: Any) -> None:
    content = compress(shards.webdataset_of(EXAMPLES))
    whole = read(content, "webdataset")
    assert [(record.encoded, record.label) for record in whole] == EXAMPLES
    for size in (len(content) // 3, len(content) - 5):
        *records, last = read(content[:size], "webdataset")
        assert [(record.encoded, record.label) for record in records] == EXAMPLES[: len(records)]
        assert last.position is None
        assert str(last.reject).startswith("truncated")


@pytest.mark.parametrize("compress", [gzip.compress, bzip2, lzma.compress, zstandard], ids=lambda f: f.__name__)
def test_a_fault_of_the_storage_is_not_taken_for_a_broken_stream(compress: Any) -> None:
    class Fails(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 10_000:
                raise OSError("the network is down")
            return super().read(min(size or 0, 5_000))

    names = webdataset.Packed(image="png", label="cls")
    with pytest.raises(OSError, match="the network is down"):
        list(webdataset.read_webdataset(Fails(compress(shards.webdataset_of(EXAMPLES))), names, "uri"))


def test_a_file_that_grows_without_end_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "LONGEST", 10 * 2**20)
    files = {"0.jpg": bytes(20 * 2**20), "1.jpg": IMAGE, "1.cls": b"1", "2.jpg": IMAGE, "2.cls": b"x" * 5000}
    content = gzip.compress(shards.tar_of(files), 1)
    tracemalloc.start()
    records = read(content, "webdataset")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert labels(records) == ["1"]
    assert rejects(records) == [(0, "longer than 268435456 bytes"), (2, "label is longer than 1000 characters")]
    assert peak < 4 * 2**20


def header(kind: bytes, content: bytes = b"", size: int | None = None, name: str = "a.jpg") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


PAX = tarfile.XHDTYPE
BROKEN = [
    header(b"0", b"x", 2**60),
    header(b"0", b"x", -512),
    header(PAX, b"29 size=99999999999999999999\n"),
    header(PAX, b"13 size=-512\n"),
    header(PAX, b"20 GNU.sparse.map=x\n"),
    header(PAX, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + header(b"0", b"99999\n1\n"),
    header(PAX, b"9" * 5000 + b" a=b\n"),
    header(PAX, b"20 hdrcharset=\xff\xfe\xfd\n"),
    header(PAX, b"10 path=x\n") * 2000,
    header(b"L", b"name\0") * 2000,
    header(b"S"),
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_header_that_is_none_breaks_the_archive_there_and_nothing_else(broken: bytes) -> None:
    whole = b"".join(header(b"0", content, name=name) for name, content in (("0.jpg", IMAGE), ("0.cls", b"1")))
    records = read(whole + header(b"0", name="1.cls") + broken + header(b"0", b"x"), "webdataset")
    assert labels(records)[:1] == ["1"]
    assert records[-1].reject is not None


def test_a_header_that_claims_to_be_endless_is_not_read_into_memory() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    content = info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000)
    assert rejects(read(content, "webdataset")) == [
        (None, "corrupt (a header of 8589934592 bytes) before its first record")
    ]
