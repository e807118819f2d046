"""What a listing costs: labels, splits, digest and Parquet of a source whose keys come for free.

python benchmarks/listing.py [--keys 100000] [--rounds 3] [--against FOLDER]

Each side is a process of its own, and they take turns: this code, and that of the checkout in FOLDER. Printed are the
microseconds of a processor for each key (the median), and the ratio. Keys are those of pictures in two class folders;
every tenth is a file of another kind beside them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
SIDE = """
import sys, tempfile, time
from job.config import Data
from job.data.snapshot import take_snapshot
from job.storage import ObjectInfo, open_store

class Source:
    uri = "s3://bucket/pictures/"
    def list(self, prefix="", skipped=None):
        for label in ("cat", "dog"):
            for number in range(keys // 2):
                kind = "txt" if number % 10 == 9 else "jpg"
                yield ObjectInfo(f"{label}/{number:08d}.{kind}", 29_000, f"{number:032x}", 1.7e9)

keys = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    began = time.process_time()
    take_snapshot(Data(source=Source.uri), Source(), open_store(f"file://{folder}/"))
    print((time.process_time() - began) / keys * 1e6)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    sides = {"this code": HERE, **({"the other": options.against.resolve()} if options.against else {})}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, folder in sides.items():
            spent[name].append(_measure(folder, options.keys))
    medians = {name: statistics.median(values) for name, values in spent.items()}
    for name, value in medians.items():
        print(f"{name}: {value:.1f} µs of a processor for each of {options.keys:,} keys")
    if options.against:
        print(f"ratio: {medians['this code'] / medians['the other']:.2f}")


def _measure(folder: Path, keys: int) -> float:
    command = [sys.executable, "-c", SIDE, str(keys)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
