"""What a run asks of its buckets: requests, bytes and objects.

python benchmarks/traffic.py [--examples 10000] [--against FOLDER]

An embedded run (head and fine-tuning of a small network, of one epoch each) on that many small pictures in S3, as
moto's server has it, from an empty store. Counted are the requests that leave the process, by verb and by what they are
about, the bytes of their bodies and of the answers', and the objects that the run leaves. Both sides in one go: this
code, and that of the checkout in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from tables import markdown

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests"))

from support.images import picture  # noqa: E402
from support.servers import s3_server  # noqa: E402

JOB = """
name: traffic
data: {source: s3://traffic/pictures/}
store: s3://traffic/STORE/
model: {backbone: mobilenetv2, weights: none, image_size: 32, head: {hidden: [16]}}
phases: {head: {epochs: 1}, fine_tune: {unfreeze: {blocks: 1}, epochs: 1, allow_unconverged_head: true}}
train: {batch_size: 256, cache: "on"}
"""
RUN = """
import atexit, json, sys, threading
from collections import Counter
from urllib.parse import urlsplit
from botocore.httpsession import URLLib3Session
from job.cli import main

job, option, path = sys.argv[1:]
counts, lock, send = Counter(), threading.Lock(), URLLib3Session.send

def counted(self, request):
    answer = send(self, request)
    key = urlsplit(request.url).path.strip("/").split("/")
    about = key[1] if key[1:2] == ["pictures"] else key[2] if len(key) > 2 else "lists"
    sent, got = (int(headers.get("Content-Length") or 0) for headers in (request.headers, answer.headers))
    with lock:
        counts[request.method, about] += 1
        counts["bytes", about] += sent + (got if request.method == "GET" else 0)
    return answer

URLLib3Session.send = counted
atexit.register(lambda: json.dump([[*name, count] for name, count in counts.items()], open(path, "w")))
sys.argv = ["thaw", "run", job, option]
main()
"""
VERBS = ("GET", "HEAD", "PUT", "POST", "DELETE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    sides = {"this code": HERE, **({"the other": options.against.resolve()} if options.against else {})}
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory(prefix="traffic-") as temporary, s3_server() as address:
        os.environ.update({**account, "AWS_ENDPOINT_URL": address})
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="traffic")
        content = {label: [picture(number, label) for number in range(20)] for label in ("red", "green")}

        def put(number: int) -> None:
            label = ("red", "green")[number % 2]
            body = content[label][number % 20]
            s3.put_object(Bucket="traffic", Key=f"pictures/{label}/{number:06d}.png", Body=body)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(options.examples)))
        for place, (name, folder) in enumerate(sides.items()):
            print(f"{name}, {options.examples:,} examples:\n{_side(folder, Path(temporary), f'store-{place}', s3)}\n")


def _side(folder: Path, temporary: Path, store: str, s3: Any) -> str:
    (temporary / "job.yaml").write_text(JOB.replace("STORE", store))
    counts = temporary / "counts.json"
    command = [sys.executable, "-c", RUN, str(temporary / "job.yaml"), "--json", str(counts)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "THAW_CACHE": str(temporary / store)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    asked = {(verb, about): count for verb, about, count in json.loads(counts.read_text())}
    objects, sizes = Counter[str](), Counter[str]()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="traffic", Prefix=f"{store}/"):
        for info in page.get("Contents", ()):
            about = info["Key"].split("/")[1]
            objects[about] += 1
            sizes[about] += info["Size"]
    rows = [["about", *VERBS, "MiB sent and received", "objects left", "MiB left"]]
    for about in sorted({about for _, about in asked}):
        numbers = [f"{asked.get((verb, about), 0):,}" for verb in VERBS]
        moved = f"{asked.get(('bytes', about), 0) / 2**20:.1f}"
        rows.append([about, *numbers, moved, f"{objects[about]:,}", f"{sizes[about] / 2**20:.1f}"])
    totals = [f"{sum(count for (verb, _), count in asked.items() if verb == of):,}" for of in VERBS]
    rows.append(["**all**", *totals, "", f"{objects.total():,}", f"{sizes.total() / 2**20:.1f}"])
    return markdown(rows)


if __name__ == "__main__":
    main()
