"""Shards of the pictures of `images`, as others write them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from job.config import Data
from job.storage import Store
from support.images import CLASSES, picture

Example = tuple[bytes, str]
"""The encoded picture and its label."""
Rows = dict[str, list[Example]]
"""What is in the shards, by their keys."""


def examples(count: int, start: int = 0) -> list[Example]:
    labels = [CLASSES[i % 2] for i in range(start, start + count)]
    return [(picture(start + i, label), label) for i, label in enumerate(labels)]


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def webdataset_of(rows: list[Example]) -> bytes:
    files = {}
    for i, (image, label) in enumerate(rows):
        files |= {f"{i:05d}.cls": f"{label}\n".encode(), f"{i:05d}.PNG": image, f"{i:05d}.json": b"{}"}
    return tar_of(files)


def parquet_of(columns: dict[str, Any], rows_per_group: int = 7) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=rows_per_group)
    return buffer.getvalue()


def plain_parquet_of(rows: list[Example]) -> bytes:
    return parquet_of({"label": [label for _, label in rows], "image": [image for image, _ in rows]})


def hugging_face_parquet_of(rows: list[Example]) -> bytes:
    images = [{"bytes": image, "path": f"{i}.png"} for i, (image, _) in enumerate(rows)]
    return parquet_of({"image": images, "label": [label for _, label in rows]})


def tfrecord_of(features: list[dict[str, Any]]) -> bytes:
    """By TensorFlow itself."""
    import tensorflow as tf

    with TemporaryDirectory() as folder:
        path = str(Path(folder, "file"))
        with tf.io.TFRecordWriter(path) as writer:
            for record in features:
                named = {
                    name: _feature(value if isinstance(value, list) else [value]) for name, value in record.items()
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString())
        return Path(path).read_bytes()


def usual_tfrecord_of(rows: list[Example]) -> bytes:
    return tfrecord_of([{"image/encoded": image, "image/class/label": label.encode()} for image, label in rows])


def _feature(values: list[Any]) -> Any:
    from tensorflow import train

    if values and isinstance(values[0], bytes):
        return train.Feature(bytes_list=train.BytesList(value=values))
    if values and isinstance(values[0], float):
        return train.Feature(float_list=train.FloatList(value=values))
    return train.Feature(int64_list=train.Int64List(value=values))


MAKERS: dict[str, tuple[str, str, Callable[[list[Example]], bytes]]] = {
    "webdataset": ("webdataset", "tar", webdataset_of),
    "parquet": ("parquet", "parquet", plain_parquet_of),
    "parquet of Hugging Face": ("parquet", "parquet", hugging_face_parquet_of),
    "tfrecord": ("tfrecord", "tfrecord", usual_tfrecord_of),
}
"""Layout, suffix and maker of a shard, by what a test is called."""


def fill(source: Store, form: str, shard_count: int = 3, rows: int = 20) -> Rows:
    """Writes shards, whose names are not the easiest, each with one row more than the one before."""
    _, suffix, make = MAKERS[form]
    content = {f"part {i}?#%20;/x.{suffix}": examples(rows + i, start=100 * i) for i in range(shard_count)}
    for key, examples_of_shard in content.items():
        source.write(key, make(examples_of_shard))
    return content


def data_of(form: str, source: Store, **settings: Any) -> Data:
    return Data(source=source.uri, layout=MAKERS[form][0], **settings)
