"""Whether this code ends with the bytes of other code: the same job on the same data, from an empty store on each side.

python benchmarks/same_bytes.py --against FOLDER [--images 320]

Photographs of solar cells, EfficientNet-Lite0, head and top stage, three epochs each: embedded, and with two workers on
Ray. Printed is the sha256 of the trained weights of both sides, the other being the checkout in FOLDER. The command
ends with 1 where they differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from peers_recipe import prepare
from tables import markdown

HERE = Path(__file__).resolve().parents[1]
JOB = """\
name: bytes
data: {{source: "file://{data}/"}}
store: "file://{store}/"
model: {{backbone: efficientnet_lite0, weights: package, image_size: 96}}
phases:
  head: {{epochs: 3, learning_rate: 1e-3}}
  fine_tune: {{unfreeze: {{blocks: 1}}, epochs: 3, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 32, cache: "on"}}
scaling: {{executor: {executor}, workers: {workers}}}
"""
SIDES = {"embedded": ("local", 1), "two workers on Ray": ("ray", 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--images", type=int, default=320)
    options = parser.parse_args()
    rows, same = [["", "this code", "the other", ""]], True
    with tempfile.TemporaryDirectory(prefix="bytes-") as temporary:
        folder = Path(temporary)
        prepare(folder, options.images)
        for name, (executor, workers) in SIDES.items():
            ours, theirs = (
                _weights(code, folder, f"{side}-{executor}", executor=executor, workers=workers)
                for side, code in enumerate((HERE, options.against.resolve()))
            )
            same &= ours == theirs
            rows.append([name, ours[:16], theirs[:16], "equal" if ours == theirs else "**different**"])
    print(markdown(rows))
    sys.exit(not same)


def _weights(code: Path, folder: Path, store: str, *, executor: str, workers: int) -> str:
    """The sha256 of the weights that a run of this code ends with."""
    values = {"data": folder / "data", "store": folder / store, "executor": executor, "workers": workers}
    job = folder / f"{store}.yaml"
    job.write_text(JOB.format(**values))
    environment = {**os.environ, "PYTHONPATH": str(code), "THAW_CACHE": str(folder / f"cache-{store}")}
    command = [sys.executable, "-m", "job", "run", str(job), "--json"]
    done = subprocess.run(command, cwd=code, env=environment, check=True, stdout=subprocess.PIPE)
    model = Path(json.loads(done.stdout)["model"].removeprefix("file://"))
    return hashlib.sha256((model / "weights.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
