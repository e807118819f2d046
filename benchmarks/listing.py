"""What a listing costs: pages, labels, splits, digest and Parquet.

python benchmarks/listing.py [--keys 100000] [--rounds 3] [--free] [--against FOLDER]

Keys are those of pictures in two class folders; every tenth is a file of another kind beside them. A server on loopback
makes them up, page by page, as S3 lists them; with --free they cost nothing, so that only what is done with them is
measured.
Each side is a process of its own, and they take turns: this code, and that of the checkout in FOLDER. Printed are the
microseconds of a processor for each key (the median) and the most memory, without the server's, and the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
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
    """Lists as many keys as the server has."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("continuation-token", ["0"])[0])
        keys: int = self.server.keys  # type: ignore[attr-defined]
        last = min(first + PAGE, keys)
        objects = "".join(_written(number, keys // 2) for number in range(first, last))
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
        head = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        )
        head += "<Name>bucket</Name><Prefix>pictures/</Prefix><EncodingType>url</EncodingType>"
        end = more if last < keys else "<IsTruncated>false</IsTruncated>"
        body = f"{head}{end}{objects}</ListBucketResult>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _written(number: int, half: int) -> str:
    label, place = ("cat", number) if number < half else ("dog", number - half)
    kind = "txt" if place % 10 == 9 else "jpg"
    return (
        f"<Contents><Key>pictures/{label}/{place:08d}.{kind}</Key><LastModified>2026-11-26T13:55:00.000Z"
        f"</LastModified><ETag>&quot;{place:032x}&quot;</ETag><Size>29000</Size><StorageClass>STANDARD</StorageClass>"
        "</Contents>"
    )


def _serve(keys: int, ports: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.keys = keys  # type: ignore[attr-defined]
        ports.put(server.server_port)
        server.serve_forever()


@contextmanager
def served(keys: int) -> Iterator[str]:
    """The endpoint of a server that lists so many keys, in a process of its own."""
    context = get_context("spawn")
    ports = context.Queue()
    process = context.Process(target=_serve, args=(keys, ports), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ports.get(timeout=60)}"
    finally:
        process.terminate()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--free", action="store_true", help="keys that cost nothing")
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    sides = {"this code": HERE, **({"the other": options.against.resolve()} if options.against else {})}
    spent: dict[str, list[list[float]]] = {name: [] for name in sides}
    with served(options.keys) as endpoint:
        for _ in range(options.rounds):
            for name, folder in sides.items():
                spent[name].append(_measure(folder, options.keys, endpoint, free=options.free))
    medians = {name: statistics.median(cpu for cpu, *_ in values) for name, values in spent.items()}
    for name, cpu in medians.items():
        clock, memory = (statistics.median(value[place] for value in spent[name]) for place in (1, 2))
        each = f"{cpu / options.keys * 1e6:.1f} µs of a processor for each of {options.keys:,} keys"
        print(f"{name}: {each}, {clock:.1f} s in all, {memory:.0f} MiB")
    if options.against:
        print(f"ratio: {medians['this code'] / medians['the other']:.2f}")


def _measure(folder: Path, keys: int, endpoint: str, *, free: bool) -> list[float]:
    command = [sys.executable, "-c", SIDE, str(keys), "free" if free else "listed"]
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    environment = {**os.environ, **account, "AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


if __name__ == "__main__":
    main()
