"""A small job from the command to the prompt, embedded in one process and on Ray with one worker: where its time goes.

python benchmarks/startup.py [--rounds 1] [--json FILE]

800 photographs of solar cells at 96 pixels (or drawn pictures, where those are not installed), the head alone, from an
empty store and in a process of its own each time; the two take turns, after a run of each that is not counted and
leaves its bytecode behind, as installing does. Printed are the seconds of each part, which add
up to the whole, and their ratio. The command ends with 1 where the embedded run had more than one process at any time,
or has imported Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tables import markdown

from job.demo.solar_cells import write_cells
from job.features.workload import CHUNK
from job.run.processes import descendants

SIDES = {"local": "embedded", "ray": "Ray, one worker"}
IMAGES, SIZE = 800, 96
EVERY = 0.02
"""Seconds between two looks at the processes."""
PARTS = {
    "interpreter": "Python's start",
    "imports": "our own imports, to the first word",
    "listing": "listing",
    "tensorflow": "importing TensorFlow",
    "preparing": "weights, network, plan",
    "features_start": "features: to the first chunk",
    "features": "features: the other chunks",
    "workers": "worker: start and end",
    "first_step": "worker: to its first step",
    "head": "the head's epochs",
    "export": "evaluation, export, promotion",
    "report": "report",
    "end": "from the last word to the prompt",
    "rest": "the rest",
}
JOB = """
name: startup
data: {{source: "file://{folder}/data/"}}
store: "file://{folder}/store/"
model: {{backbone: efficientnet_lite0, weights: {weights}, image_size: {size}}}
phases: {{head: {{epochs: 10}}, fine_tune: null}}
scaling: {{executor: {executor}, workers: 1}}
"""
DRIVER = """
import time
began = time.time()
import json, sys
told, *sys.argv = sys.argv[1:]
try:
    from job.__main__ import start
    start()
finally:
    with open(told, "w") as file:
        json.dump({"began": began, "ray": "ray" in sys.modules, "modules": len(sys.modules)}, file)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory(prefix="thaw-startup-") as temporary:
        folder = Path(temporary)
        weights = _write_pictures(folder / "data")
        for side in options.sides:
            _run(folder / f"{side}-before", folder / "data", side, weights)
        for number in range(options.rounds):
            for side in options.sides:
                runs[side].append(_run(folder / f"{side}-{number}", folder / "data", side, weights))
                print(f"{SIDES[side]}: {runs[side][-1]['whole']:.1f} s", file=sys.stderr, flush=True)
    medians = {side: _medians(mine) for side, mine in runs.items()}
    print(_table(medians))
    if len(medians) == len(SIDES):
        ratio = statistics.median(
            ray["whole"] / local["whole"] for local, ray in zip(runs["local"], runs["ray"], strict=True)
        )
        print(f"\nOn Ray the same job takes **{ratio:.2f}** times as long (median of {options.rounds}).")
    if options.json:
        Path(options.json).write_text(json.dumps({"runs": runs, "medians": medians}, indent=1) + "\n")
    if "local" in runs:
        sys.exit(_told_of(runs["local"]))


def _told_of(embedded: list[dict[str, Any]]) -> str | None:
    """What is wrong with the processes of the embedded runs, if anything; prints what there was."""
    most, modules = max(run["processes"] for run in embedded), max(run["modules"] for run in embedded)
    imported = any(run["ray"] for run in embedded)
    print(f"\nEmbedded: {most} process at most, {modules} modules, Ray imported: {'yes' if imported else 'no'}.")
    if most > 1:
        return f"startup: the embedded run had {most} processes at a time; it should be one."
    return "startup: the embedded run has imported Ray." if imported else None


def _write_pictures(folder: Path) -> str:
    """Writes the pictures, half of them of each class; returns the weights that there are for them."""
    from job.errors import JobError

    try:
        with tempfile.TemporaryDirectory(prefix="thaw-startup-") as whole:
            write_cells(Path(whole))
            for label in sorted(os.listdir(whole)):
                (folder / label).mkdir(parents=True)
                for path in sorted(Path(whole, label).iterdir())[: IMAGES // 2]:
                    Image.open(path).convert("RGB").resize((SIZE, SIZE)).save(folder / label / path.name)
        return "package"
    except JobError:
        random = np.random.default_rng(0)
        for label, least in (("bright", 128), ("dark", 0)):
            (folder / label).mkdir(parents=True)
            for number in range(IMAGES // 2):
                pixels = random.integers(least, least + 128, (SIZE, SIZE, 3), np.uint8)
                Image.fromarray(pixels).save(folder / label / f"{number:03d}.png")
        return "none"


def _run(folder: Path, data: Path, side: str, weights: str) -> dict[str, Any]:
    """Seconds of each part, and what there was of processes and modules."""
    folder.mkdir()
    (folder / "data").symlink_to(data)
    (folder / "job.yaml").write_text(JOB.format(folder=folder, weights=weights, size=SIZE, executor=side))
    arguments = [str(folder / "told.json"), "thaw", "run", str(folder / "job.yaml"), "--json"]
    environment = {**os.environ, "THAW_LOG": "json", "PYTHONPYCACHEPREFIX": str(data.parent / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with open(folder / "out", "wb") as out, open(folder / "log", "wb") as log:
        started = time.time()
        process = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], stdout=out, stderr=log, env=environment)
        most = 1
        while process.poll() is None:
            most = max(most, 1 + len(descendants(process.pid)))
            time.sleep(EVERY)
        ended = time.time()
    if process.returncode:
        log_end = (folder / "log").read_text(errors="replace")[-4000:]
        sys.exit(f"startup: the {SIDES[side]} run ended with {process.returncode}:\n{log_end}")
    told = json.loads((folder / "told.json").read_text())
    return {"whole": ended - started, "processes": most, **told, "parts": _parts(folder, started, ended, told["began"])}


def _parts(folder: Path, started: float, ended: float, began: float) -> dict[str, float]:
    words = list(_words((folder / "log").read_text()))
    names = ("listing", "preparing", "features", "workers", "head", "export", "promotion", "report")
    stages = dict.fromkeys(names, 0.0)
    for row in json.loads(next(folder.glob("store/runs/*/timings.json")).read_text()):
        stages[row["stage"]] += row["seconds"]
    ready = next(word["seconds"] for word in words if word["event"] == "ready")
    rate = next(word["rate"] for word in reversed(words) if word.get("rate") and word["phase"] == "extract")
    others = (IMAGES - CHUNK) / rate
    tensorflow = _time(words, "resolving") - _time(words, "preparing")
    parts = {
        "interpreter": began - started,
        "imports": words[0]["at"] - began,
        "listing": stages["listing"],
        "tensorflow": tensorflow,
        "preparing": stages["preparing"] - tensorflow,
        "features_start": stages["features"] - others,
        "features": others,
        "workers": stages["workers"] - ready["first step"],
        "first_step": ready["first step"],
        "head": stages["head"],
        "export": stages["export"] + stages["promotion"],
        "report": stages["report"],
        "end": ended - words[-1]["at"],
    }
    return {**parts, "rest": ended - started - sum(parts.values())}


def _words(log: str) -> Iterator[dict[str, Any]]:
    for line in log.splitlines():
        if line.startswith("{"):
            document = json.loads(line)
            yield {**document, "at": datetime.fromisoformat(document["time"]).timestamp()}


def _time(words: list[dict[str, Any]], begin: str) -> float:
    """When the first line was written that begins so."""
    return next(word["at"] for word in words if word["message"].startswith(begin))


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Of the parts; the rest is what makes them the median whole."""
    parts = {name: statistics.median(run["parts"][name] for run in runs) for name in PARTS if name != "rest"}
    whole = statistics.median(run["whole"] for run in runs)
    return {**parts, "rest": whole - sum(parts.values()), "whole": whole}


def _table(medians: dict[str, dict[str, float]]) -> str:
    rows = [["seconds", *(SIDES[side] for side in medians)]]
    rows += [[words, *(f"{mine[name]:.2f}" for mine in medians.values())] for name, words in PARTS.items()]
    return markdown([*rows, ["**whole**", *(f"**{mine['whole']:.1f}**" for mine in medians.values())]])


if __name__ == "__main__":
    main()
