"""Workers with GPUs that are not there: what a run costs beside its network, for 1, 2, 4 and 8 of them.

python benchmarks/fake_gpus.py [--workers 1 2 4 8] [--rate 2000] [--json FILE]

Each number of workers has a Ray cluster of its own on this machine, which says that it has as many GPUs. A network
there is a sleep of so many examples a second (`THAW_FAKE_GPU`); all else is real: a store in moto, features, order,
batches, sums of the gradients, checkpoints, events. Each worker has a batch of BATCH examples. A worker is killed in
fine-tuning. Printed are, for each number of workers: seconds of a step, the share of it that is spent waiting for
batches and for the sum over the workers, bytes that go over the wire for a step, seconds to the first step and to the
first one after the kill, how often the checkpoint was read then, events a second, and the GPUs that are free while the
head trains; the seconds that it takes to go from two workers to four; and what the model of docs/scale.md expects, from
what one and two workers took.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import kills
from kills import Scene, Watched, training_workers
from scale import compared
from tables import markdown

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE / "tests"))

from support.faults import Proxy, faulty, object_read  # noqa: E402
from support.images import picture  # noqa: E402
from support.raynodes import Cluster, free_gpus, ray_nodes  # noqa: E402
from support.servers import s3_server  # noqa: E402
from support.shards import plain_parquet_of  # noqa: E402

SHARDS, OF_SHARD, BATCH, SIZE = 24, 2048, 256, 96
"""Files of examples, examples of each, examples of a worker's batch, pixels of a picture."""
PATIENCE = 900.0
"""Seconds until a moment that never comes is an error; the first run computes all features."""
EPOCHS = 6
"""Of fine-tuning: the second and third are measured; after the fourth comes a checkpoint, after the fifth a kill."""
PART = re.compile(r"([a-z ]+?) ([\d.]+)[,)]")
JOB = """
name: workers
data: {source: "file://FOLDER/pictures/", layout: parquet, split: {train: 0.8, validation: 0.1, test: 0.1}}
store: s3://scale/store/
model: {backbone: efficientnet_lite0, weights: package, image_size: SIZE}
phases:
  head: {epochs: 2, learning_rate: 1e-3}
  fine_tune:
    {unfreeze: {blocks: 1}, epochs: EPOCHS, patience: EPOCHS, learning_rate: 1e-4, allow_unconverged_head: true}
train: {batch_size: BATCH, cache: "on"}
scaling: {executor: ray, workers: WORKERS, gpu: true, cpus_per_worker: 1}
checkpoint: {every_steps: EVERY, every_minutes: null}
promote: null
"""
DRIVER = """
import atexit, json, sys, time
from job.cli import main
from job.run.events import Bus

told, emit, path = [], Bus.emit, sys.argv.pop()

def counted(self, event):
    told.append((time.time(), type(event).__name__))
    emit(self, event)

Bus.emit = counted
atexit.register(lambda: json.dump(told, open(path, "w")))
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rate", type=float, default=2000.0, help="examples a second of each worker's network")
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    options = parser.parse_args()
    kills.PATIENCE = PATIENCE
    account = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with tempfile.TemporaryDirectory(prefix="workers-") as temporary, s3_server() as address:
        os.environ.update({**account, "AWS_ENDPOINT_URL": address})
        boto3.client("s3").create_bucket(Bucket="scale")
        _write_pictures(Path(temporary))
        found = [_measured(Path(temporary), address, workers, rate=options.rate) for workers in options.workers]
        if options.json:
            Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
        print(markdown(_table(found)), end="\n\n", flush=True)
        if {1, 2} <= set(options.workers):
            print(markdown(compared(found)), end="\n\n", flush=True)
        resized = _resized(Path(temporary), address, 2, rate=options.rate)
        print(f"From 2 workers to 4, once a node for them starts: {resized:.1f} s to the next step.")


def _write_pictures(folder: Path) -> None:
    (folder / "pictures").mkdir()
    made = [(picture(number, label), label) for label in ("red", "green") for number in range(20)]
    content = plain_parquet_of([made[number % len(made)] for number in range(OF_SHARD)])
    for shard in range(SHARDS):
        (folder / f"pictures/{shard:03d}.parquet").write_bytes(content)


def _measured(folder: Path, address: str, workers: int, *, rate: float) -> dict[str, Any]:
    """One run with so many workers, one of which is killed."""
    job, events = folder / f"job-{workers}.yaml", folder / f"events-{workers}.json"
    job.write_text(_job(folder, workers, workers))
    resources = (f"--num-cpus={workers + 4}", f"--num-gpus={workers}")
    with faulty(address, only=object_read) as proxy, _cluster(proxy, rate, *resources) as cluster:
        command = [sys.executable, "-c", DRIVER, "run", str(job), "--json", str(events)]
        environment = {**cluster.environment, "THAW_CACHE": str(folder / "cache")}
        with free_gpus(cluster) as free, Watched(command, Scene(folder), environment) as run:
            found = _watched(run, cluster, proxy)
            result = run.outcome().result
    told = json.loads(events.read_text())
    run_folder, snapshot = result["run"].removeprefix("s3://scale/"), result["snapshot"]
    history, timings = (_document(run_folder + name) for name in ("training.json", "timings.json"))
    counts = _document(f"store/snapshots/{snapshot}.json")["counts"]
    epochs = [record for record in history["history"]["fine_tune"] if record.get("seconds")]
    found |= {
        "workers": workers,
        "rate": rate,
        "batch": BATCH * workers,
        "counts": {split: sum(of_classes.values()) for split, of_classes in counts.items()},
        "parameters": history["parameters"]["fine_tune"],
        "epochs": epochs,
        "timings": timings,
        **_placed(told, free, found["killed"]),
    }
    print(found, file=sys.stderr, flush=True)
    return found


def _resized(folder: Path, address: str, workers: int, *, rate: float) -> float:
    """Seconds from the start of a node with room for as many workers again to the first step that all make."""
    job, half = folder / "job-resized.yaml", (f"--num-cpus={workers + 4}", f"--num-gpus={workers}")
    job.write_text(_job(folder, workers, 2 * workers).replace("name: workers", "name: resized"))
    command = [sys.executable, "-m", "job", "run", str(job), "--json"]
    with faulty(address, only=object_read) as proxy, _cluster(proxy, rate, *half) as cluster:
        environment = {**cluster.environment, "THAW_CACHE": str(folder / "cache")}
        with Watched(command, Scene(folder), environment) as run:
            run.until(lambda scene: scene.said("fine-tune epoch   1 "))
            run.scene.lines.clear()
            began = time.time()
            cluster.add(*half)
            run.until(lambda scene: scene.said(f"training on {2 * workers} workers"))
            run.until(lambda scene: scene.said("the first step is made"))
            return time.time() - began


def _job(folder: Path, least: int, most: int) -> str:
    """The text of the job; of one of several numbers of workers, the batch is that of the most."""
    workers = str(most) if least == most else f"{{min: {least}, max: {most}}}"
    steps = -(-round(0.8 * SHARDS * OF_SHARD) // (BATCH * most))
    values = {
        "EVERY": 4 * steps + 1,
        "WORKERS": workers,
        "BATCH": BATCH * most,
        "EPOCHS": EPOCHS,
        "SIZE": SIZE,
        "FOLDER": folder,
    }
    text = JOB
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


@contextmanager
def _cluster(proxy: Proxy, rate: float, *resources: str) -> Iterator[Cluster]:
    """A Ray cluster whose processes ask the bucket through the proxy."""
    fake = {"THAW_FAKE_GPU": "1", "THAW_FAKE_GPU_RATE": str(rate), "AWS_ENDPOINT_URL": proxy.url}
    with ray_nodes(*resources, environment=fake) as cluster:
        yield cluster


def _watched(run: Watched, cluster: Cluster, proxy: Proxy) -> dict[str, Any]:
    """What is seen from outside: of two undisturbed epochs, and of the end of a worker."""
    run.until(lambda scene: scene.said("the first step is made") and scene.said("fine-tune epoch   1 "))
    first, began = _parts_of_start(run.scene), _wire()
    run.until(lambda scene: scene.said("fine-tune epoch   3 "))
    wire = (_wire() - began) / 2
    run.until(lambda scene: scene.said("fine-tune epoch   5 "))
    run.scene.lines.clear()
    asked, killed = len(proxy.asked), time.time()
    os.kill(training_workers(cluster.nodes[0].process.pid)[-1], signal.SIGKILL)
    run.until(lambda scene: scene.said("the first step is made"))
    again = time.time() - killed
    reads = [target for target in proxy.asked[asked:] if "/checkpoints/" in target]
    return {
        "killed": killed,
        "start": first,
        "wire": wire,
        "restart": again,
        "restart_parts": _parts_of_start(run.scene),
        "checkpoint_reads": len(reads),
    }


def _parts_of_start(scene: Scene) -> dict[str, float]:
    """Seconds until the latest group's first step, by part."""
    line = next(line for line in reversed(scene.lines) if "the first step is made" in line)
    return {part.strip(): float(spent) for part, spent in PART.findall(line.partition("(")[2])}


def _wire() -> int:
    """Bytes that have come over loopback so far."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.partition(":")[2].split()[0])


def _document(key: str) -> Any:
    return json.loads(boto3.client("s3").get_object(Bucket="scale", Key=key)["Body"].read())


def _placed(told: list[tuple[float, str]], free: list[tuple[float, float]], killed: float) -> dict[str, Any]:
    """Events a second in fine-tuning, and the GPUs that were free while the head trained, and then until the kill."""
    started = next(at for at, name in told if name == "TrainingStarted")
    handed = next(at for at, name in told if name == "HandedOver")
    epochs = [at for at, name in told if name == "EpochEnded" and at > handed]
    between = [name for at, name in told if epochs[0] <= at <= epochs[-1] and name != "RunProgress"]
    return {
        "events": len(between) / (epochs[-1] - epochs[0]),
        "free_in_head": sorted({gpus for at, gpus in free if started <= at <= handed}),
        "free_in_fine_tuning": sorted({gpus for at, gpus in free if epochs[0] <= at <= killed}),
    }


def _table(found: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["workers", *(str(one["workers"]) for one in found)]]
    for words, text in ROWS.items():
        rows.append([words, *(text(one) for one in found)])
    return rows


ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "seconds of an epoch of fine-tuning": lambda one: f"{_mean(one, 'seconds'):.2f}",
    "of them waiting for batches": lambda one: f"{_mean(one, 'input_wait') / _mean(one, 'seconds'):.1%}",
    "waiting for the sum over the workers": lambda one: f"{_mean(one, 'all_reduce_wait') / _mean(one, 'seconds'):.1%}",
    "MB over the wire for a step, all workers together": lambda one: f"{one['wire'] / _steps(one) / 1e6:.1f}",
    "seconds to the first step": lambda one: f"{sum(one['start'].values()):.1f}",
    "from a kill to the next step": lambda one: f"{one['restart']:.1f}",
    "requests for the checkpoint then": lambda one: str(one["checkpoint_reads"]),
    "events a second": lambda one: f"{one['events']:.1f}",
    "GPUs free in the head's phase": lambda one: ", ".join(f"{gpus:g}" for gpus in one["free_in_head"]),
    "GPUs free in fine-tuning": lambda one: ", ".join(f"{gpus:g}" for gpus in one["free_in_fine_tuning"]),
}


def _mean(one: dict[str, Any], name: str) -> float:
    """Of the epochs that nothing happens to, without the first."""
    return statistics.mean(epoch[name] for epoch in one["epochs"][1:3])


def _steps(one: dict[str, Any]) -> int:
    return -(-one["epochs"][0]["examples"] // (BATCH * one["workers"]))


if __name__ == "__main__":
    main()
