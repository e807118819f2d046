"""The extract stage against a bare loop that decodes and runs the frozen network, and from a slow store.

python benchmarks/extract.py [--rounds 3] [--images N] [--executor ray] [--compare loop store]

`loop`: both read the demo's photographs, decode them and run EfficientNet-Lite0 to the same two outputs, on all cores;
the bare loop (tf.data, decoding in parallel) stores nothing. Both begin with a network that is compiled, and nothing
that is read; they end with the last image, whose features the stage has stored. (On Ray the start of its processes
counts as well.)
`store`: the stage alone, from an S3 server on this machine whose objects come 150 ms after they are asked for, and from
the same server without the delay.

The sides take turns; each ratio is of one round, printed is their median. Beside the rates are the milliseconds of a
processor that an image takes in this process, which say more where others work on the machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from objects import served

from job.config.jobfile import parse_job
from job.demo.solar_cells import write_cells

JOB = """
name: extract
data: {{source: "{source}"}}
store: "file://{folder}/store/"
phases: {{fine_tune: {{unfreeze: {{blocks: 1}}}}}}
train: {{cache: on}}
scaling: {{executor: {executor}, workers: 1}}
"""
DELAY = 0.15
BARS = {"loop": 0.95, "store": 0.9}


class Mark(NamedTuple):
    """Where a side is."""

    at: float
    cpu: float
    done: int


class Pace(NamedTuple):
    rate: float
    """Images a second."""
    cpu: float
    """Milliseconds of a processor for each."""

    def __str__(self) -> str:
        return f"{self.rate:.0f} images/s ({self.cpu:.1f} ms)"


def _mark(done: int) -> Mark:
    return Mark(time.perf_counter(), time.process_time(), done)


def _pace(begin: Mark, end: Mark) -> Pace:
    images = end.done - begin.done
    return Pace(images / (end.at - begin.at), 1000 * (end.cpu - begin.cpu) / images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="a part of the photographs")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--compare", nargs="+", choices=BARS, default=list(BARS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thaw-extract-") as temporary:
        folder = Path(temporary)
        write_cells(folder / "data")
        photographs = sorted((folder / "data").rglob("*.png"), key=lambda path: path.name)
        for path in photographs[options.images :] if options.images else ():
            path.unlink()
        if "loop" in options.compare:
            _against_loop(folder, options.executor, options.rounds)
        if "store" in options.compare:
            _from_stores(folder, options.executor, options.rounds)


def _against_loop(folder: Path, executor: str, rounds: int) -> None:
    job, ratios = _job(folder, f"file://{folder}/data/", executor), []
    for _ in range(rounds):
        bare, stage = _bare(job, folder), _stage(job)
        ratios.append(stage.rate / bare.rate)
        print(f"bare loop {bare}, extract stage {stage}, ratio {ratios[-1]:.2f}", flush=True)
    median = statistics.median(ratios)
    print(f"The extract stage runs at **{median:.2f}** of a bare loop's rate (median of {rounds}; bar {BARS['loop']}).")


def _from_stores(folder: Path, executor: str, rounds: int) -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}
    job, ratios = _job(folder, "s3://photographs/", executor), []
    with served(folder / "data") as fast, served(folder / "data", DELAY) as slow:
        for _ in range(rounds):
            at_once, late = (_stage(job, address) for address in (fast, slow))
            ratios.append(late.rate / at_once.rate)
            print(f"from S3 {at_once}, {1000 * DELAY:.0f} ms later {late}, ratio {ratios[-1]:.2f}", flush=True)
    median = statistics.median(ratios)
    print(f"A store that takes {1000 * DELAY:.0f} ms: **{median:.2f}** (median of {rounds}; bar {BARS['store']}).")


def _job(folder: Path, source: str, executor: str) -> Any:
    return parse_job(JOB.format(folder=folder, source=source, executor=executor))


def _stage(job: Any, endpoint: str = "") -> Pace:
    """Of the extract stage, from an empty store; `endpoint`: of S3."""
    from job.data.snapshot import take_snapshot
    from job.executors import executor_of
    from job.features.cache_plan import choose_plan
    from job.features.extract import extract
    from job.run.run import Run
    from job.storage import open_store

    os.environ["AWS_ENDPOINT_URL"] = endpoint
    marks: list[Mark] = []
    source, store = open_store(job.data.source), open_store(job.store)
    snapshot = take_snapshot(job.data, source, store, task=job.task)
    resolved, network = _network(job)
    plan = choose_plan(job, network, snapshot)

    from job.run.events import Event, FeaturesComputed

    def emit(event: Event) -> None:
        if isinstance(event, FeaturesComputed):
            marks.append(_mark(event.done))

    with executor_of(job, False, lambda event: None) as (job, executor):
        if job.scaling.executor == "local":
            _compile_first(lambda: marks.append(_mark(0)))
        extract(Run(job, "benchmark", store, snapshot, resolved), plan, executor, emit=emit)
    shutil.rmtree(store.uri.removeprefix("file://"))
    # Embedded, the first mark is before the network is made. On Ray it counts: features come in a few files at a time.
    return _pace(marks[1 if job.scaling.executor == "local" else 0], marks[-1])


def _compile_first(done: Any) -> None:
    """The embedded stage's network is compiled where it is made; `done` is called then."""
    from job.executors import local
    from job.features import featurize

    class Compiled(featurize.FrozenNetwork):
        def __init__(self, work: Any, cpus: int) -> None:
            super().__init__(work, cpus)
            size = work.job.model.image_size
            self._values(np.zeros((1, size, size, 3), np.uint8), np.zeros(1, np.uint64), 0)
            done()

    local.FrozenNetwork = Compiled  # type: ignore[assignment,misc]


def _bare(job: Any, folder: Path) -> Pace:
    """Of one loop in this process."""
    import keras
    import tensorflow as tf

    from job.data.decoding import decode_image
    from job.model.cut import cheapest_cut, cut_named, legal_cuts

    _, network = _network(job)
    cut = cheapest_cut(legal_cuts(network), 2)
    assert cut is not None
    taps = keras.Model(network.input, [network.output, cut_named(network, cut.layer).tensor])

    @tf.function
    def run(images: tf.Tensor) -> list[tf.Tensor]:
        pooled, activation = taps(tf.cast(images, tf.float32), training=False)
        return [pooled, tf.cast(activation, tf.float16)]

    run(tf.zeros((32, 224, 224, 3), tf.uint8))
    files = sorted(map(str, (folder / "data").rglob("*.png")))
    begin = _mark(0)
    images = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: decode_image(tf.io.read_file(file), 224, "stretch"), num_parallel_calls=os.cpu_count()
    )
    for batch in images.batch(32, drop_remainder=True).prefetch(2):
        [output.numpy() for output in run(batch)]
    return _pace(begin, _mark(len(files) // 32 * 32))


def _network(job: Any) -> tuple[Any, Any]:
    from job.run.identity import prepare_base
    from job.storage import open_store

    return prepare_base(job, open_store(job.store), lambda event: None)


if __name__ == "__main__":
    main()
