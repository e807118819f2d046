"""What a listing costs: pages, labels, splits, digest and Parquet.

python benchmarks/listing.py [--keys 100000] [--classes 2] [--delay 0.1] [--rounds 3] [--free] [--against FOLDER]

Keys are those of pictures in class folders; every tenth is a file of another kind beside them. A server on loopback
makes them up, page by page, as S3 lists them, with --delay each page so many seconds after it was asked for; with
--free they cost nothing, so that only what is done with them is measured.
Each side is a process of its own, and they take turns: this code, and that of the checkout in FOLDER. Printed are the
microseconds of a processor for each key (the median), the time, and the most memory, without the server's, and the
ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

HERE = Path(__file__).resolve().parents[1]
PAGE = 1000
SIDE = """
import resource, sys, tempfile, time
from job.config import Data
from job.data.snapshot import take_snapshot
from job.storage import ObjectInfo, open_store

class Free:
    uri = "s3://bucket/pictures/"
    def list(self, prefix="", skipped=None):
        for label in ("cat", "dog"):
            for number in range(keys // 2):
                kind = "txt" if number % 10 == 9 else "jpg"
                yield ObjectInfo(f"{label}/{number:08d}.{kind}", 29_000, f"{number:032x}", 1.7e9)
    def pages(self, skipped=None):
        from job.storage.objects import in_pages

        return in_pages(self.list())
    def folders(self, after=""):
        return None

keys, free = int(sys.argv[1]), sys.argv[2] == "free"
source = Free() if free else open_store(Free.uri)
list(zip(range(3), source.list()))  # the client is made
with tempfile.TemporaryDirectory() as folder:
    began, clock = time.process_time(), time.monotonic()
    snapshot = take_snapshot(Data(source=Free.uri), source, open_store(f"file://{folder}/"))
    spent = time.process_time() - began, time.monotonic() - clock
    assert snapshot.examples >= 9 * keys // 10, snapshot  # checkouts of before take the files of another kind as well
    print(*spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


class Pages(BaseHTTPRequestHandler):
    """Lists as many keys in as many classes as the server has."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        keys, each, delay = self.server.sizes  # type: ignore[attr-defined]
        time.sleep(delay)
        head = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        )
        head += f"<Name>bucket</Name><Prefix>{query['prefix']}</Prefix><EncodingType>url</EncodingType>"
        if "delimiter" in query:
            classes = -(-keys // each) if query["prefix"] == "pictures/" else 0
            folders = (f"pictures/{_class(number)}/" for number in range(min(classes, PAGE)))
            rest = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders)
            rest += "<IsTruncated>false</IsTruncated>"
        else:
            first = int(query.get("continuation-token", 0))
            if after := query.get("start-after"):
                first = max(first, bisect_right(range(keys), after, key=lambda number: _key(number, each)))
            last = min(first + PAGE, keys)
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
            rest = more if last < keys else "<IsTruncated>false</IsTruncated>"
            rest += "".join(_written(number, each) for number in range(first, last))
        body = f"{head}{rest}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _class(number: int) -> str:
    return f"class{number:05d}"


def _key(number: int, each: int) -> str:
    """The keys by ascending bytes; `each` class has so many."""
    kind = "txt" if number % 10 == 9 else "jpg"
    return f"pictures/{_class(number // each)}/{number % each:08d}.{kind}"


def _written(number: int, each: int) -> str:
    return (
        f"<Contents><Key>{_key(number, each)}</Key><LastModified>2026-11-26T13:55:00.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>29000</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _serve(sizes: tuple[int, int, float], ports: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.sizes = sizes  # type: ignore[attr-defined]
        ports.put(server.server_port)
        server.serve_forever()


@contextmanager
def served(keys: int, classes: int, delay: float) -> Iterator[str]:
    """The endpoint of a server that lists so many keys, in a process of its own."""
    context = get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=_serve, args=((keys, -(-keys // classes), delay), ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get(timeout=60)}"
    finally:
        process.terminate()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--free", action="store_true", help="keys that cost nothing")
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    sides = {"this code": HERE, **({"the other": options.against.resolve()} if options.against else {})}
    spent: dict[str, list[list[float]]] = {name: [] for name in sides}
    with served(options.keys, options.classes, options.delay) as endpoint:
        for _ in range(options.rounds):
            for name, folder in sides.items():
                spent[name].append(_measure(folder, options.keys, endpoint, free=options.free))
    medians = {name: statistics.median(cpu for cpu, *_ in values) for name, values in spent.items()}
    for name, cpu in medians.items():
        clock, memory = (statistics.median(value[place] for value in spent[name]) for place in (1, 2))
        each = f"{cpu / options.keys * 1e6:.1f} µs of a processor for each of {options.keys:,} keys"
        print(f"{name}: {each}, {clock:.1f} s in all, {memory:.0f} MiB")
    if options.against:
        clocks = {name: statistics.median(value[1] for value in values) for name, values in spent.items()}
        ratios = [values["this code"] / values["the other"] for values in (medians, clocks)]
        print(f"ratio: {ratios[0]:.2f} of the processor, {ratios[1]:.2f} of the time")


def _measure(folder: Path, keys: int, endpoint: str, *, free: bool) -> list[float]:
    command = [sys.executable, "-c", SIDE, str(keys), "free" if free else "listed"]
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    environment = {**os.environ, **account, "AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
