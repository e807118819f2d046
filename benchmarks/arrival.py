"""What a model costs after more data has arrived, against the same run from nothing.

python benchmarks/arrival.py [--new 0.01 0.1 1] [--images N] [--json FILE]

The demo's recipe with four views on photographs of solar cells. For each fraction of new examples, a run on the others
first puts a model into use; then the rest of the photographs arrive, and the job runs again: the features of the new
examples only, a warm head, 2 epochs of fine-tuning from the layers of the model in use instead of 7 from the pretrained
ones, and the comparison of both models. Beside it, the same job on all photographs from an empty store. Each run is a
process of its own. Seconds, by what a run says on its way:
    start       Python, TensorFlow, the listing, and what is stored or computed is decided
    ray         Ray starts
    extraction  the features of what has none
    workers     the training workers start, meet, load, and make their first step
    head, fine-tune
    export      the model is evaluated and exported
    promotion   it is compared with the model in use
Then the time from the last event of an arrival to its RayJob, less the watcher's `quiet_for`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arrival_watch import seconds_to_rayjobs
from peers_recipe import CLASSES, prepare
from tables import markdown

PARTS = ("start", "ray", "extraction", "workers", "head", "fine-tune", "export", "promotion")
JOB = """\
name: arrival
data: {{source: "file://{folder}/data/"}}
store: "file://{folder}/store/"
model: {{backbone: efficientnet_lite0, weights: package, image_size: 224, head: {{hidden: [256], dropout: 0.2}}}}
phases:
  head: {{epochs: 60, learning_rate: 1e-3, patience: 5, warm_start: true}}
  fine_tune: {{unfreeze: {{blocks: 4}}, epochs: 7, warm_epochs: 2, learning_rate: 3e-4, optimizer: adamw,
    schedule: cosine, weight_decay: 1e-4}}
augment: {{flip_horizontal: true, flip_vertical: true}}
train: {{batch_size: 32, seed: 0, views: 4, cache: "on"}}
scaling: {{workers: 2}}
promote: {{min_gain: -0.02}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of a model after more data has arrived.")
    parser.add_argument("--new", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="as fractions of what was there")
    parser.add_argument("--images", type=int, help="a part of the photographs, the classes in proportion")
    parser.add_argument("--arrivals", type=int, default=5, help="that the watcher turns into RayJobs")
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    parser.add_argument("--run", metavar="JOB", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(_run_here(options.run)))
        return
    with tempfile.TemporaryDirectory(prefix="arrival-") as temporary:
        folder = Path(temporary)
        prepare(folder, options.images)
        photographs = sorted(folder.glob("data/*/*"))
        runs = {"from nothing": _arrive(folder / "all", [photographs])}
        for fraction in options.new:
            late = round(len(photographs) * fraction / (1 + fraction))
            chosen = {photographs[index * len(photographs) // late] for index in range(late)}
            before = [file for file in photographs if file not in chosen]
            runs[f"{fraction:.0%} new"] = _arrive(folder / f"{fraction}", [before, sorted(chosen)])
    waits = seconds_to_rayjobs(options.arrivals)
    print(_table(runs))
    print(f"\nFrom the last event to the RayJob: quiet_for + {max(waits):.2f} s at most, of {len(waits)} arrivals.")
    if options.json:
        Path(options.json).write_text(json.dumps({"runs": runs, "to_rayjob": waits}, indent=1) + "\n")


def _arrive(folder: Path, arrivals: list[list[Path]]) -> dict[str, Any]:
    """Runs the job after each arrival; what the last run took."""
    for label in CLASSES:
        (folder / "data" / label).mkdir(parents=True)
    job = folder / "job.yaml"
    job.write_text(JOB.format(folder=folder))
    for files in arrivals:
        for file in files:
            shutil.copy2(file, folder / "data" / file.parent.name / file.name)
        run = _run(job)
    shutil.rmtree(folder)
    return run


def _run(job: Path) -> dict[str, Any]:
    begun = time.time()
    command = [sys.executable, __file__, "--run", str(job)]
    environment = {**os.environ, "THAW_CACHE": str(job.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"arrival: the run ended with {done.returncode}:\n{done.stderr[-2000:]}")
    ended, told = time.time(), json.loads(done.stdout.splitlines()[-1])
    marks = [begun, *(told["marks"][part] for part in PARTS)]
    seconds = {part: end - start for part, start, end in zip(PARTS, marks, marks[1:], strict=False)}
    print(f"{job.parent.name}: {ended - begun:.0f} s {_rounded(seconds)}", file=sys.stderr, flush=True)
    return {**told, "whole": ended - begun, "seconds": seconds}


def _run_here(job: str) -> dict[str, Any]:
    """In this process; when each part ended, and how many examples were computed."""
    from job.config.jobfile import load_job
    from job.run.events import Event, FeaturesComputed
    from job.telemetry.observed import run_observed

    marks: dict[str, float] = {}
    computed = 0

    def emit(event: Event) -> None:
        nonlocal computed
        if isinstance(event, FeaturesComputed):
            computed = event.of
        for part, is_end in ENDS.items():
            over = any(later in marks for later in PARTS[PARTS.index(part) + 1 :])
            if not over and is_end(event.kind, _text(event)):
                marks[part] = time.time()

    printed = run_observed(load_job(job), "all", emit).as_json()
    marks["promotion"] = time.time()
    for part, before in (("extraction", "ray"), ("export", "promotion")):  # there was nothing to do
        marks.setdefault(part, marks[before])
    return {"marks": marks, "computed": computed, "promotion": printed["promotion"], "metrics": printed["metrics"]}


def _text(event: Any) -> str:
    return str(getattr(event, "text", "") or getattr(event, "what", ""))


ENDS: dict[str, Callable[[str, str], bool]] = {
    "start": lambda kind, text: text.startswith("cache: "),
    "ray": lambda kind, text: kind == "stage" and text == "features",
    "extraction": lambda kind, text: kind == "extract",
    "workers": lambda kind, text: kind == "ready",
    "head": lambda kind, text: kind == "head",
    "fine-tune": lambda kind, text: kind == "trained",
    "export": lambda kind, text: text.startswith("comparing"),
}
"""Which event ends a part; of several the last one counts."""


def _table(runs: dict[str, dict[str, Any]]) -> str:
    nothing = runs["from nothing"]
    rows = [["run", "computed", "whole", "of the run from nothing", *PARTS, "accuracy", "promoted"]]
    for name, run in runs.items():
        numbers = [f"{run['seconds'][part]:.1f}" for part in PARTS]
        accuracy = f"{run['metrics']['fine_tune']['accuracy']:.4f}"
        ratio = f"{run['whole'] / nothing['whole']:.2f}"
        promoted = "yes" if run["promotion"]["promoted"] else "no"
        rows.append([name, str(run["computed"]), f"{run['whole']:.1f}", ratio, *numbers, accuracy, promoted])
    return markdown(rows)


def _rounded(seconds: dict[str, float]) -> str:
    return ", ".join(f"{part} {spent:.1f}" for part, spent in seconds.items())


if __name__ == "__main__":
    main()
