"""Fine-tuning from stored activations against computing the frozen layers in every epoch; prints the ratios.

python benchmarks/cache.py [--images 480] [--epochs 3] [--cases …]

Each case is two runs of `thaw run` on photographs of solar cells, `train.cache: off` and `on`, in turn. Compared
is the median epoch after the first, its validation included, as the run itself records it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from job.demo.solar_cells import write_cells

CASES = {
    "vgg19": ("vgg19", "none", "{from: block5_conv1}"),
    "vgg16": ("vgg16", "none", "{from: block5_conv1}"),
    "lite0-top-stage": ("efficientnet_lite0", "package", "{blocks: 1}"),
    "lite0-top-two-stages": ("efficientnet_lite0", "package", "{blocks: 5}"),
    "vgg19-two-blocks": ("vgg19", "none", "{from: block4_conv1}"),
}
"""Backbone, weights, unfreeze; at 224 pixels."""
JOB = """
name: cache
data: {{source: "file://{folder}/data/"}}
store: "file://{folder}/store/"
model: {{backbone: {backbone}, weights: {weights}, head: {{hidden: [64]}}}}
phases:
  head: {{epochs: 1, learning_rate: 1e-3}}
  fine_tune: {{unfreeze: {unfreeze}, epochs: {epochs}, learning_rate: 1e-5, allow_unconverged_head: true}}
train: {{batch_size: 32, cache: {cache}}}
scaling: {{workers: {workers}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES)[:4])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thaw-cache-") as temporary:
        folder = Path(temporary)
        write_cells(folder / "all")
        for label in ("defective", "functional"):
            (folder / "data" / label).mkdir(parents=True)
            for picture in sorted((folder / "all" / label).iterdir())[: options.images // 2]:
                shutil.copy(picture, folder / "data" / label)
        print(
            "| network | thawed | recomputed, s an epoch | from the store, s | ratio |\n| --- | --- | --- | --- | --- |"
        )
        for case in options.cases:
            backbone, _, unfreeze = CASES[case]
            off, on = (_epoch(folder, case, cache, options.epochs, options.workers) for cache in ("off", "on"))
            print(f"| {backbone} | {unfreeze} | {off:.2f} | {on:.2f} | **{off / on:.1f}** |", flush=True)


def _epoch(folder: Path, case: str, cache: str, epochs: int, workers: int) -> float:
    """Seconds of the median epoch of fine-tuning after the first."""
    backbone, weights, unfreeze = CASES[case]
    values = {"backbone": backbone, "weights": weights, "unfreeze": unfreeze, "epochs": epochs, "workers": workers}
    job = folder / "job.yaml"
    job.write_text(JOB.format(folder=folder, cache=cache, **values))
    command = [sys.executable, "-m", "job", "run", str(job), "--json"]
    environment = {**os.environ, "THAW_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{case}, train.cache {cache}: the run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    run = json.loads(done.stdout)["run"].removeprefix("file://")
    history = json.loads(Path(run, "training.json").read_text())["history"]["fine_tune"]
    return statistics.median(epoch["seconds"] for epoch in history if epoch["epoch"] > 1)


if __name__ == "__main__":
    main()
