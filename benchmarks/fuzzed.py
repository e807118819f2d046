"""The readers that are given damaged files, and whole files of each."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import mutations
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from job.config import Data
from job.config.jobfile import load_job
from job.data.forms import Form, image_form, text_form
from job.data.pictures import Unreadable
from job.data.sources.packed import make_index, records_of
from job.data.sources.table import read_table
from job.data.sources.tfrecord import framed
from job.libraries import import_tensorflow
from job.storage import open_store
from job.text.vectors import read_vectors

Read = Callable[[bytes], list[str]]
"""An input -> the reasons for what can't be used of it; none where it is read whole."""


@dataclass(frozen=True)
class Reader:
    name: str
    make: Callable[[Path], Read]
    """With a folder of its own."""
    seeds: Callable[[], list[bytes]]
    mutations: tuple[mutations.Mutation, ...] = (mutations.whole,)


@cache
def pictures() -> list[bytes]:
    """Small ones of every usual format."""
    random, found = np.random.default_rng(0), []
    grey = Image.fromarray(random.integers(0, 256, (24, 20), np.uint8))
    colour = Image.fromarray(random.integers(0, 256, (24, 20, 3), np.uint8))
    for picture, form, options in (
        (colour, "JPEG", {}),
        (colour, "JPEG", {"progressive": True}),
        (grey, "PNG", {}),
        (colour.convert("RGBA"), "PNG", {}),
        (colour.convert("P"), "PNG", {}),
        (grey.convert("I;16"), "PNG", {}),
        (colour.convert("P"), "GIF", {"save_all": True, "append_images": [colour.convert("P")] * 2}),
        (colour, "BMP", {}),
        (colour, "WEBP", {}),
        (colour, "TIFF", {}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        found.append(buffer.getvalue())
    return found


@cache
def tars() -> list[bytes]:
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for i, picture in enumerate(pictures()[:5]):
                name = f"{'long ' * 30 if i == 2 and form != tarfile.USTAR_FORMAT else ''}{i}.{i % 2}ü"
                parts = {"jpg": picture, "json": json.dumps({"label": i % 2, "a": {"b": [1, None]}}).encode()}
                for end, content in parts.items():
                    info = tarfile.TarInfo(f"{name}.{end}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        found.append(buffer.getvalue())
    return found


@cache
def tfrecords() -> list[bytes]:
    from job.data.sources.tfrecord import _example_type

    found = []
    for i, picture in enumerate(pictures()[:5]):
        example = _example_type()()
        for name, kind, values in (
            ("image/encoded", "bytes", [picture]),
            ("image/class/label", ("ints", "bytes", "floats")[i % 3], [(i, b"cat", 0.5)[i % 3]]),
            ("image/height", "ints", [24]),
        ):
            entry = example.features.entries.add(key=name)
            getattr(entry.value, kind).value.extend(values)
        found.append(framed(example.SerializeToString()))
    return [b"".join(found)]


@cache
def parquets() -> list[bytes]:
    images = [{"bytes": picture, "path": f"{i}.jpg"} for i, picture in enumerate(pictures()[:6])]
    features = {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    numbers = pa.table({"image": images, "label": [0, 1, None, 0, 1, 1]}).replace_schema_metadata(metadata)
    texts = pa.table({"image": [one["bytes"] for one in images], "label": pa.array(list("ababab")).dictionary_encode()})
    found = []
    for table, options in (
        (numbers, {"row_group_size": 2}),
        (texts, {"compression": "zstd", "write_page_checksum": True}),
        (texts, {"compression": "none", "data_page_version": "2.0", "use_dictionary": False}),
    ):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **options)
        found.append(buffer.getvalue())
    return found


def _table(kind: str) -> list[bytes]:
    rows = [{"key": f"{i}.jpg", "label": "cäts" if i % 2 else "dog, big", "text": f"a text\nof {i}"} for i in range(30)]
    if kind == "csv":
        lines = (",".join('"' + row[name].replace('"', '""') + '"' for name in row) for row in rows)
        content = "\n".join(["key,label,text", *lines])
        return [content.encode(), content.encode("utf-16"), content.encode("cp1252")]
    if kind == "jsonl":
        return ["\n".join(json.dumps(row, ensure_ascii=i % 2 == 0) for i, row in enumerate(rows)).encode()]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return [buffer.getvalue()]


JOB = """
name: cells
data:
  source: s3://bucket/cells/
  layout: table
  table: {file: labels.csv, label: kind}
  split: {train: 0.7, validation: 0.2, test: 0.1}
store: s3://bucket/thaw/
model: {backbone: vgg19, weights: {uri: "s3://b/w.h5", sha256: "00"}, head: {hidden: [256, 128], dropout: 0.2}}
phases:
  head: {epochs: 50, learning_rate: 1e-3, patience: 5}
  fine_tune: {unfreeze: {blocks: 2}, epochs: 10, learning_rate: auto}
train: {batch_size: 64, class_weights: {a: 1.5, b: 2}, cache_limit: 50 GiB}
scaling: {workers: {min: 1, max: 8}, gpu: false}
"""


def _packed(layout: str, folder: Path, **packed: str) -> Read:
    data = Data(source="file:///source/", layout=layout, packed=packed or None)

    def read(content: bytes) -> list[str]:
        records = list(records_of(pa.BufferReader(content), data, "file:///source/shard"))
        make_index(records)
        return [record.reject for record in records if record.reject]

    return read


def _formed(form: Callable[[], Form], folder: Path) -> Read:
    """As the report and the checks of exports read an example; the run reads as many in one call."""
    import_tensorflow()  # no input waits for it
    of = form()

    def read(content: bytes) -> list[str]:
        try:
            assert of.read(content).shape == of.shape
        except Unreadable as error:
            return [str(error)]
        return []

    return read


def _tabular(file: str, text: str | None, folder: Path) -> Read:
    data = Data(source=f"file://{folder}/", layout="table", table={"file": file, "text": text, "label": "label"})
    source = open_store(data.source)

    def read(content: bytes) -> list[str]:
        source.write(file, content)
        read_table(data, source)
        return []

    return read


def _vectors(folder: Path) -> Read:
    from job.data.text import ids_of_words

    wanted = np.sort(ids_of_words([b"word%d" % i for i in range(0, 50, 3)]).numpy())

    def read(content: bytes) -> list[str]:
        (folder / "vectors").write_bytes(content)
        return list(read_vectors(folder / "vectors", wanted, "vectors").skipped)

    return read


def _job(folder: Path) -> Read:
    def read(content: bytes) -> list[str]:
        (folder / "job.yaml").write_bytes(content)
        load_job(folder / "job.yaml")
        return []

    return read


@cache
def vectors() -> list[bytes]:
    random = np.random.default_rng(0)
    lines = [f"word{i} {' '.join(f'{value:.4f}' for value in random.normal(0, 1, 8))}" for i in range(50)]
    content = "\n".join(lines).encode()
    return [content, gzip.compress(content, mtime=0)]


IN_TAR = (mutations.whole, mutations.tar_headers)
IN_RECORDS = (mutations.whole, mutations.records)
READERS = {
    reader.name: reader
    for reader in (
        Reader("tar", partial(_packed, "webdataset", label="json.label"), tars, IN_TAR),
        Reader(
            "tar.gz",
            partial(_packed, "webdataset", label="json.label", group="json.a.b.0"),
            lambda: [gzip.compress(tar, mtime=0) for tar in tars()],
            (mutations.whole, *map(mutations.compressed, IN_TAR)),
        ),
        Reader("tfrecord", partial(_packed, "tfrecord"), tfrecords, IN_RECORDS),
        Reader(
            "tfrecord, gzip",
            partial(_packed, "tfrecord"),
            lambda: [gzip.compress(one, mtime=0) for one in tfrecords()],
            (mutations.whole, *map(mutations.compressed, IN_RECORDS)),
        ),
        Reader("parquet", partial(_packed, "parquet"), parquets),
        Reader(
            "pictures",
            partial(_formed, lambda: image_form(32, "stretch", 1_000_000)),
            pictures,
            (mutations.whole, mutations.png_chunks),
        ),
        Reader("table, CSV", partial(_tabular, "labels.csv", None), partial(_table, "csv")),
        Reader("table, CSV of texts", partial(_tabular, "labels.csv", "text"), partial(_table, "csv")),
        Reader("table, JSON lines", partial(_tabular, "labels.jsonl", "text"), partial(_table, "jsonl")),
        Reader("table, Parquet", partial(_tabular, "labels.parquet", "text"), partial(_table, "parquet")),
        Reader(
            "texts",
            partial(_formed, lambda: text_form(16)),
            lambda: ["Größe — it's don't 3.5\n".encode() * 20, b"plain words " * 90],
        ),
        Reader("word vectors", _vectors, vectors),
        Reader("job file", _job, lambda: [JOB.encode()]),
    )
}
