"""What a run holds in memory for each example: the process of `thaw run`, and each worker.

python benchmarks/held.py [--examples 10000000]

A snapshot of that many made-up examples goes through what a run does with them beside their pictures: their order and
addresses, what of their features is missing, the work, the index of the feature store, the data set's table, and the
data set as a worker has it. Each step is a process of its own. Printed are its seconds, the most memory that it took
beyond that of its imports, and that for each example; and the bytes of what is stored.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tables import markdown

STEPS = ("order", "missing", "work", "index", "table", "worker")
TEXTS = {
    "order": "the order and the addresses (`read_examples`)",
    "missing": "what is missing (`missing`), beside the order",
    "work": "the work in chunks (`write_work`), beside the order",
    "index": "the index of one featurizer's files (`stored_features`)",
    "table": "the data set's table (`write_dataset`), beside order and index",
    "worker": "the data set of a worker (`load_dataset`)",
}
SOURCE, ROWS = "s3://bucket/pictures/", 1_000_000
PARTS = 800
"""Examples of a part: 4 MiB of pooled features of EfficientNet-Lite0."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--step", choices=STEPS, help="this step in this process")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.step:
        _run(options.step, options.folder, options.examples)
        return
    with tempfile.TemporaryDirectory(prefix="held-") as temporary:
        _make(Path(temporary), options.examples)
        rows = [["what", "seconds", "MiB at most", "bytes an example"]]
        for step in STEPS:
            command = [sys.executable, __file__, "--step", step, "--folder", temporary]
            done = subprocess.run(
                [*command, "--examples", str(options.examples)], check=True, stdout=subprocess.PIPE, text=True
            )
            seconds, most = json.loads(done.stdout)
            rows.append([TEXTS[step], f"{seconds:.0f}", f"{most / 2**20:,.0f}", f"{most / options.examples:.0f}"])
        print(f"{options.examples:,} examples\n\n{markdown(rows)}\n")
        for path in ("snapshots/any.parquet", "runs/run/work.parquet", "runs/run/dataset.parquet"):
            print(
                f"{path}: {(Path(temporary) / 'store' / path).stat().st_size / options.examples:.1f} bytes an example"
            )


def _make(folder: Path, examples: int) -> None:
    """The snapshot's table, and the index of features of all of its examples."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from job.data.snapshot import EXAMPLES

    random = np.random.default_rng(0)
    (folder / "store/snapshots").mkdir(parents=True)
    with pq.ParquetWriter(folder / "store/snapshots/any.parquet", EXAMPLES, compression="zstd") as writer:
        for begin in range(0, examples, ROWS):
            numbers = range(begin, min(begin + ROWS, examples))
            keys = [f"class {10 * number // examples}/{number:09d}.jpg" for number in numbers]
            columns: list[Any] = [keys, [29_000] * len(keys), [random.bytes(16).hex() for _ in keys]]
            columns += [[key[:7] for key in keys], random.choice(["train", "validation", "test"], len(keys)).tolist()]
            writer.write_table(pa.table([pa.array(column) for column in columns], schema=EXAMPLES), row_group_size=8192)


def _parts() -> tuple[Any, Any]:
    from job.features.store import Featurizer
    from job.storage import open_store

    return Featurizer("pooled", 0, "float32", (1280,), {}), open_store


def _run(step: str, folder: Path, examples: int) -> None:
    from job.config import Data  # noqa: F401  what a run has imported before
    from job.data.snapshot import Snapshot
    from job.features.dataset import load_dataset, read_examples, write_dataset
    from job.features.store import NOTHING, ids_of, stored_features
    from job.features.workload import missing, write_work

    featurizer, open_store = _parts()
    store = open_store(f"file://{folder}/store/")
    snapshot = Snapshot("any", examples, [], {}, {}, {})
    classes = [f"class {number}" for number in range(10)]
    ids_of(np.zeros(1, "S16"))
    before, began = _memory(), time.monotonic()
    if step in ("order", "missing", "work", "table"):
        listed = read_examples(store, snapshot, SOURCE, packed=False)
    if step == "missing":
        missing(listed, [(featurizer, NOTHING)])
    elif step == "work":
        needs = np.ones((examples, 1), np.bool_)
        write_work(store, "run", listed, needs=needs, featurizers=[featurizer], packed=False)
    elif step == "index":
        stored_features(store, featurizer)
    elif step == "table":
        stored = [(featurizer, stored_features(store, featurizer))]
        accepted = np.ones(examples, np.bool_)
        write_dataset(store, "run", classes, examples=listed, accepted=accepted, pooled=stored, inputs=[])
    elif step == "worker":
        load_dataset(store, "run", classes, class_weights=None)
    print(json.dumps([time.monotonic() - began, _memory() - before]))
    if step == "order":
        _write_index(store, featurizer, listed)


def _write_index(store: Any, featurizer: Any, listed: Any) -> None:
    """Markers as of files of 64 MiB, for the steps after this one."""
    import base64
    from dataclasses import asdict

    from job.features.store import LAYOUT, Part

    of_file = 16 * PARTS
    for number, begin in enumerate(range(0, len(listed.addresses), of_file)):
        parts = []
        for start in range(begin, min(begin + of_file, len(listed.addresses)), PARTS):
            addresses = listed.addresses[start : start + PARTS]
            part = Part(f"{number:020d}", 0, 0, len(addresses), "0" * 64)
            parts.append({"part": asdict(part), "addresses": base64.b64encode(addresses.tobytes()).decode()})
        marker = {"format": LAYOUT, "parts": parts, "rejects": []}
        store.write(f"features/{featurizer.id}/{number:020d}.json", json.dumps(marker).encode())


def _memory() -> int:
    """The most memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
