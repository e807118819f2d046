"""The extract stage on Ray against a bare loop that decodes and runs the frozen network without Ray; prints the ratio.

python benchmarks/extract.py [--rounds 2]

Both read the demo's photographs, decode them and run EfficientNet-Lite0 to the same two outputs, on all cores. The bare
loop (tf.data, decoding in parallel) stores nothing. The rate of the stage is that of the chunks after the first, which
does not count the start of its processes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from job.jobfile import parse_job
from job.run.demo import write_cells

JOB = """
name: extract
data: {{source: "file://{folder}/data/"}}
store: "file://{folder}/store/"
phases: {{fine_tune: {{unfreeze: {{blocks: 1}}}}}}
train: {{cache: on}}
scaling: {{executor: ray}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    ratios = []
    with tempfile.TemporaryDirectory(prefix="thaw-extract-") as temporary:
        folder = Path(temporary)
        write_cells(folder / "data")
        for _ in range(rounds):
            bare, stage = _bare(folder), _stage(folder)
            ratios.append(stage / bare)
            print(
                f"bare loop {bare:.0f} images/s, extract stage {stage:.0f} images/s, ratio {ratios[-1]:.2f}", flush=True
            )
            shutil.rmtree(folder / "store")
    print(f"The extract stage runs at **{statistics.median(ratios):.2f}** of a bare loop's rate (median of {rounds}).")


def _job(folder: Path) -> Any:
    return parse_job(JOB.format(folder=folder))


def _stage(folder: Path) -> float:
    """Images a second of the extract stage, which a process of its own would not do faster."""
    from job.data.snapshot import take_snapshot
    from job.executors import executor_of
    from job.run.extract import extract
    from job.run.plan import choose_plan
    from job.storage import open_store

    job, times = _job(folder), []
    source, store = open_store(job.data.source), open_store(job.store)
    snapshot = take_snapshot(job.data, source, store)
    resolved, network = _network(job)
    plan = choose_plan(job, network, snapshot)

    def say(kind: str, **event: Any) -> None:
        if kind == "extract":
            times.append((time.perf_counter(), event["done"]))

    with executor_of(job, False, say) as (job, executor):
        extract(job, "benchmark", open_store(job.store), snapshot, asdict(resolved), plan, executor, say)
    (begin, first), (end, last) = times[0], times[-1]
    return (last - first) / (end - begin)


def _bare(folder: Path) -> float:
    """Images a second of one loop in this process."""
    import keras
    import tensorflow as tf

    from job.data.decoding import decode_image
    from job.model.cut import cheapest_cut, cut_named, legal_cuts

    job = _job(folder)
    _, network = _network(job)
    cut = cheapest_cut(legal_cuts(network), 2)
    assert cut is not None
    taps = keras.Model(network.input, [network.output, cut_named(network, cut.layer).tensor])

    @tf.function
    def run(images: tf.Tensor) -> list[tf.Tensor]:
        pooled, activation = taps(tf.cast(images, tf.float32), training=False)
        return [pooled, tf.cast(activation, tf.float16)]

    files = sorted(map(str, (folder / "data").rglob("*.png")))
    images = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: decode_image(tf.io.read_file(file), 224, "stretch"), num_parallel_calls=2
    )
    begin = 0.0
    for batch in images.batch(32, drop_remainder=True).prefetch(2):
        [output.numpy() for output in run(batch)]
        begin = begin or time.perf_counter()  # compiled
    return (len(files) // 32 - 1) * 32 / (time.perf_counter() - begin)


def _network(job: Any) -> tuple[Any, Any]:
    from job.model.freezing import freeze, thaw
    from job.model.weights import load_base, resolve_base
    from job.storage import open_store

    store = open_store(job.store)
    resolved = resolve_base(job.model, store, 0, lambda line: None)
    network = load_base(job.model, store, resolved)
    freeze(network)
    thaw(network, job.phases.fine_tune.unfreeze)
    return resolved, network


if __name__ == "__main__":
    main()
