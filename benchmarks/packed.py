"""Reading packed files for their index: processor time for a record of each layout, and the memory that it takes.

python benchmarks/packed.py [--records 4000] [--size 8192] [--rounds 5]

The files lie on this machine, each record has an encoded image of `size` bytes and a label. Printed is the fastest of
the rounds, which take turns; memory is what Python has allocated at most.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import markdown

from job.config import Data
from job.data.sources.packed import make_index, open_shard, records_of
from job.storage import open_store


def _images(records: int, size: int) -> list[bytes]:
    random = np.random.default_rng(0)
    return [b"\xff\xd8\xff" + random.bytes(size - 3) for _ in range(records)]


def _webdataset(path: Path, images: list[bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for i, image in enumerate(images):
            for extension, content in (("cls", b"%d" % (i % 10)), ("jpg", image)):
                info = tarfile.TarInfo(f"{i:06d}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def _parquet(path: Path, images: list[bytes]) -> None:
    labels = [i % 10 for i in range(len(images))]
    pq.write_table(pa.table({"image": images, "label": labels}), path, row_group_size=1000)


def _tfrecord(path: Path, images: list[bytes]) -> None:
    from tensorflow import io as tf_io
    from tensorflow import train

    with tf_io.TFRecordWriter(str(path)) as writer:
        for i, image in enumerate(images):
            features = {
                "image/encoded": train.Feature(bytes_list=train.BytesList(value=[image])),
                "image/class/label": train.Feature(int64_list=train.Int64List(value=[i % 10])),
            }
            writer.write(train.Example(features=train.Features(feature=features)).SerializeToString())


LAYOUTS: dict[str, tuple[str, Callable[[Path, list[bytes]], None]]] = {
    "webdataset": ("a.tar", _webdataset),
    "parquet": ("a.parquet", _parquet),
    "tfrecord": ("a.tfrecord", _tfrecord),
}


def _read(folder: Path, layout: str, name: str) -> None:
    source = open_store(f"file://{folder}/")
    data = Data(source=source.uri, layout=layout)
    filesystem, root = source.arrow()
    with open_shard(filesystem, f"{root}/{name}", data) as file:
        make_index(records_of(file, data, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thaw-packed-") as temporary:
        folder, seconds = Path(temporary), dict[str, list[float]]()
        images = _images(options.records, options.size)
        for name, make in LAYOUTS.values():
            make(folder / name, images)
        del images
        for _ in range(options.rounds):
            for layout, (name, _) in LAYOUTS.items():
                begin = time.process_time()
                _read(folder, layout, name)
                seconds.setdefault(layout, []).append(time.process_time() - begin)
        rows = [("layout", "µs of a processor a record", "MiB at most")]
        for layout, (name, _) in LAYOUTS.items():
            tracemalloc.start()
            _read(folder, layout, name)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            rows.append((layout, f"{1e6 * min(seconds[layout]) / options.records:.0f}", f"{peak / 2**20:.1f}"))
        print(markdown(rows))


if __name__ == "__main__":
    main()
