"""From SIGKILL of a worker to the next step, part by part; and what checkpoints cost a run that nothing happens to.

python benchmarks/recovery.py [--kills 3] [--json FILE]

Two workers on photographs of solar cells, EfficientNet-Lite0 with its top stage thawed, trained from the feature store
in a folder of this machine. Seconds, each the median over the kills:
    detect       from the kill to the controller's noticing it
    restart      until the new workers' processes run: Ray starts them, and its backend imports TensorFlow
    imports      of the rest, until the worker can begin
    group        until the workers have met and the latest checkpoint is chosen
    restore      network, data set and checkpoint are loaded
    first step   is compiled and made
Then the median epoch of fine-tuning with checkpoints in it is put against one without, and what a checkpoint costs
against the default interval between them.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from kills import Scene, Watched, run_with_kills, strike
from peers_recipe import MODEL, prepare
from tables import markdown

from job.config import CheckpointPolicy

PARTS = ("detect", "restart", "imports", "group", "restore", "first step")
EVERY = 5
"""Steps between two checkpoints, in the run that has them."""
JOB = """\
name: recovery
data: {{source: "file://{folder}/data/"}}
store: "file://{folder}/store/"
model: {model}
phases:
  head: {{epochs: 2, learning_rate: 1e-3}}
  fine_tune: {{unfreeze: {{blocks: 1}}, epochs: {epochs}, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 32, cache: "on"}}
scaling: {{workers: 2}}
checkpoint: {{every_steps: {every}, every_minutes: null}}
recovery: {{max_failures: 100}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a run takes to go on after a kill.")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recovery-") as temporary:
        folder = Path(temporary)
        prepare(folder, options.images)
        kills = _recoveries(folder, options.kills)
        without, _ = _epoch(folder, options.epochs, "null")
        having, checkpoints = _epoch(folder, options.epochs, str(EVERY))
    median = {part: statistics.median(kill[part] for kill in kills) for part in PARTS}
    print(markdown([["seconds", *PARTS, "sum"], ["median", *(f"{median[p]:.1f}" for p in PARTS), _sum(median)]]))
    minutes = CheckpointPolicy().every_minutes
    assert minutes is not None
    each = (having - without) / checkpoints
    print(f"\nepoch with {checkpoints:.1f} checkpoints {having:.3f} s, without {without:.3f} s: {having / without:.3f}")
    print(f"a checkpoint costs {each:.3f} s; one in {minutes:g} minutes {each / (60 * minutes):.2%} of the time")
    if options.json:
        document = {"kills": kills, "epoch_with": having, "epoch_without": without, "checkpoints": checkpoints}
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")


def _command(folder: Path, epochs: int, every: str) -> list[str]:
    job = folder / "job.yaml"
    model = json.dumps(MODEL.model_dump(mode="json"))
    job.write_text(JOB.format(folder=folder, model=model, epochs=epochs, every=every))
    return [sys.executable, "-m", "job", "run", str(job), "--new", "--json"]


def _recoveries(folder: Path, kills: int) -> list[dict[str, float]]:
    """Kills a worker in fine-tuning, again and again; the parts of each recovery."""
    scene, found = Scene(folder / "store"), list[dict[str, float]]()
    command = _command(folder, 10**6, str(EVERY))
    with Watched(command, scene, {"THAW_CACHE": str(folder / "cache")}) as process:
        process.until(lambda scene: scene.said("fine-tune epoch   1"))
        for _ in range(kills):
            process.until(lambda scene: scene.said("fine-tune epoch"))
            time.sleep(2)
            scene.lines.clear()
            killed = time.monotonic()
            strike("worker", process.pid)
            process.until(lambda scene: scene.said("the first step is made"))
            whole = time.monotonic() - killed
            line = next(line for line in scene.lines if "the first step is made" in line)
            pairs = re.findall(r"([a-z ]+?) ([\d.]+)[,)]", line.partition("(")[2])
            parts = {part.strip(): float(spent) for part, spent in pairs}
            found.append({**parts, "detect": whole - sum(parts.values())})
            print(f"{whole:.1f} s: {found[-1]}", file=sys.stderr, flush=True)
    return found


def _epoch(folder: Path, epochs: int, every: str) -> tuple[float, float]:
    """The median epoch of fine-tuning in seconds, and checkpoints in an epoch."""
    environment = {"THAW_CACHE": str(folder / "cache")}
    done = run_with_kills(_command(folder, epochs, every), folder / "store", environment=environment)
    history = done.history["fine_tune"]
    seconds = statistics.median([epoch["seconds"] for epoch in history if "seconds" in epoch][1:])
    return seconds, -(-history[-1]["examples"] // 32) / EVERY


def _sum(parts: dict[str, float]) -> str:
    return f"{sum(parts.values()):.1f}"


if __name__ == "__main__":
    main()
