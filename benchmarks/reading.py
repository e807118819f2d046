"""What reading an object costs: the processor time of a GET, checksum included, and how many a second.

python benchmarks/reading.py [--objects 800] [--kib 29] [--threads 8] [--delay 0.15] [--rounds 3] [--against FOLDER]

A server on loopback, in a process of its own, gives objects of random bytes as S3 and as Cloud Storage do; with
--delay, each so many seconds after it was asked for. Each side is a process of its own, and they take turns: this code,
and that of the checkout in FOLDER. Printed are medians, without the server's time, and the ratios.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from objects import served
from tables import markdown

HERE = Path(__file__).resolve().parents[1]
SIDE = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from job.storage import open_store

uri, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = open_store(uri)
every = [(info.key, info.version) for info in store.list()]
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda one: store.read(*one), every[: 2 * threads]))  # all connections are made
    began, clock = time.process_time(), time.monotonic()
    read = sum(map(len, pool.map(lambda one: store.read(*one), every)))
    print(time.process_time() - began, time.monotonic() - clock)
assert read == count
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=800)
    parser.add_argument("--kib", type=int, default=29)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    sides = {"this code": HERE, **({"the other": options.against.resolve()} if options.against else {})}
    spent: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="reading-") as temporary:
        for number in range(options.objects):
            Path(temporary, f"{number:05d}.png").write_bytes(random.Random(number).randbytes(options.kib << 10))
        with served(Path(temporary), options.delay) as address:
            for _ in range(options.rounds):
                for scheme in ("s3", "gs"):
                    for name, folder in sides.items():
                        spent.setdefault((scheme, name), []).append(_measure(folder, scheme, address, options))
    rows = [["store", "side", "ms of a processor a GET", "GETs a second"]]
    for (scheme, name), values in spent.items():
        cpu, clock = (statistics.median(value[place] for value in values) for place in (0, 1))
        rows.append([scheme, name, f"{1000 * cpu / options.objects:.2f}", f"{options.objects / clock:.0f}"])
    print(markdown(rows))
    for scheme in ("s3", "gs") if options.against else ():
        ours, theirs = (statistics.median(cpu for cpu, _ in spent[scheme, name]) for name in sides)
        print(f"{scheme}: {ours / theirs:.2f} of the processor")


def _measure(folder: Path, scheme: str, address: str, options: argparse.Namespace) -> tuple[float, float]:
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    where = {"AWS_ENDPOINT_URL": address, "STORAGE_EMULATOR_HOST": address, "PYTHONPATH": str(folder)}
    size = options.objects * (options.kib << 10)
    command = [sys.executable, "-c", SIDE, f"{scheme}://bucket/", str(size), str(options.threads)]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **account, **where}, check=True, stdout=subprocess.PIPE, text=True
    )
    cpu, clock = map(float, done.stdout.split())
    return cpu, clock


if __name__ == "__main__":
    main()
