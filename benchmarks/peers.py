"""The same transfer learning done four ways, one after the other on this machine's cores, and the ratios.

python benchmarks/peers.py [--seeds 0 1 2] [--json FILE]
for a quick look: --images 96 --head-epochs 2 --fine-tune-epochs 1

The 2,624 photographs of solar cells, EfficientNet-Lite0 at 224 px, a head of 256 units, batches of 32: the head alone,
then with the network's top block; no augmentation, validation after each epoch, Thaw's split. The sides:
    keras     as Keras's transfer-learning guide: tf.data, decoded once and kept in memory; `fit` twice in one process
    features  as a good user of Keras writes it by hand: `predict` of the frozen base once, `fit` of the head on its
              features in memory; then `fit` of the top block with the whole base inside, as in the guide
    ray       as Ray's TensorFlow guide: Ray Data, decoded once, into a TensorflowTrainer's workers (two by default)
    thaw      `python -m job run`, from an empty store, with `scaling.workers: auto` by default

Each side is a process of its own for each seed, in the environment that Thaw gives its own processes. What is counted,
in seconds:
    whole run                 from the start of the process to its end, with a saved model
    from the first image      from the first image read (or the first epoch's beginning) to the end of the last epoch:
                              without the start of Python, TensorFlow and Ray; with that of the training workers,
                              where images are decoded before, and with what makes features before the first epoch
    training                  from the beginning of the first epoch, its compilation included, to the end of the last
    head, fine-tune epoch     median of the epochs after the first, each with its validation
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

from peers_recipe import AUTO_WORKERS, Recipe, first_read, forget_reads, prepare
from tables import markdown

from job.executors.ray.cluster import ENVIRONMENT
from job.libraries import library_version

SIDES = {"keras": "Keras's guide", "features": "Features first", "ray": "Ray's guide", "thaw": "Thaw"}
TIMES = {
    "whole": "whole run",
    "from_first_image": "from the first image",
    "training": "training",
    "head_epoch": "head epoch",
    "fine_tune_epoch": "fine-tune epoch",
}


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="peers-") as temporary:
        folder = Path(options.folder or temporary).resolve()
        prepare(folder, options.images)
        if options.side:
            print(json.dumps(_run_here(options, folder)))
            return
        runs = []
        for seed in options.seeds:  # the sides take turns, so that a slow hour is everybody's
            for side in options.sides:
                runs.append(_run_side(side, seed, options, folder))
                print(_progress(runs[-1]), file=sys.stderr, flush=True)
    medians = {side: _medians([run for run in runs if run["side"] == side]) for side in options.sides}
    ratios = _ratios(medians)
    print(_times_table(medians))
    if ratios:
        print(f"\n{_ratios_table(ratios)}")
    if options.json:
        document = {"machine": _machine(), "recipe": _recipe(options), "runs": runs, "medians": medians}
        Path(options.json).write_text(json.dumps({**document, "ratios": ratios}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The same transfer learning with Keras (two ways), Ray and Thaw.")
    parser.add_argument("--images", type=int, help="a part of the photographs, the classes in proportion")
    parser.add_argument("--head-epochs", type=int, default=30)
    parser.add_argument("--fine-tune-epochs", type=int, default=10)
    words = f"of the sides ray and thaw: a number, or auto: Thaw chooses, and Ray has {AUTO_WORKERS}"
    parser.add_argument("--workers", type=_workers, default="auto", metavar="N", help=words)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    parser.add_argument("--side", choices=SIDES, help="run this side in this process, with the first seed")
    parser.add_argument("--folder", help="keep the photographs and the split here; they are made where missing")
    return parser.parse_args()


def _workers(word: str) -> int | Literal["auto"]:
    return "auto" if word == "auto" else int(word)


def _run_here(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    epochs = (options.head_epochs, options.fine_tune_epochs)
    recipe = Recipe(folder, options.seeds[0], *epochs, options.workers)
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        return importlib.import_module(f"peers_{options.side}").run(recipe, Path(scratch))


def _run_side(side: str, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Runs a side in a process of its own; its times, in seconds, and accuracy."""
    command = [sys.executable, __file__, "--side", side, "--seeds", str(seed), "--folder", str(folder)]
    for name in ("head_epochs", "fine_tune_epochs", "workers"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    forget_reads(folder)
    started = time.time()
    done = subprocess.run(command, capture_output=True, text=True, env={**ENVIRONMENT, **os.environ})
    whole = time.time() - started
    if done.returncode:
        raise SystemExit(f"peers: {side} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        "side": side,
        "seed": seed,
        "whole": told.get("whole", whole),
        "from_first_image": told["end"] - min(told["start"], first_read(folder)),
        "training": told["end"] - told["start"],
        "head_epoch": _usual(told["head"]),
        "fine_tune_epoch": _usual(told["fine_tune"]),
        "accuracy": told["accuracy"],
        "head_epochs": told["head"],
        "fine_tune_epochs": told["fine_tune"],
        **{name: told[name] for name in ("kept", "accuracy_of_last") if name in told},
    }


def _usual(seconds: list[float]) -> float:
    """The median after the first epoch, which compiles (and reads)."""
    return statistics.median(seconds[1:] or seconds)


def _medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Median times over the seeds; of the accuracies the mean, the lowest and the highest."""
    found = [run["accuracy"] for run in runs]
    medians = {name: statistics.median(run[name] for run in runs) for name in TIMES}
    return {**medians, "accuracy": statistics.mean(found), "lowest": min(found), "highest": max(found)}


def _ratios(medians: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """How many times as long as Thaw the others take, and by how many points Thaw's accuracy is higher."""
    if "thaw" not in medians:
        return {}
    thaw = medians["thaw"]
    others = {side: mine for side, mine in medians.items() if side != "thaw"}
    return {
        side: {
            **{name: mine[name] / thaw[name] for name in TIMES},
            "accuracy_points": 100 * (thaw["accuracy"] - mine["accuracy"]),
        }
        for side, mine in others.items()
    }


def _times_table(medians: dict[str, dict[str, float]]) -> str:
    rows = [["seconds (median)", *TIMES.values(), "test accuracy (mean, range)"]]
    for side, mine in medians.items():
        accuracy = f"{mine['accuracy']:.4f} ({mine['lowest']:.4f}–{mine['highest']:.4f})"
        rows.append([SIDES[side], *(f"{mine[name]:.3g}" if mine[name] < 10 else f"{mine[name]:.1f}" for name in TIMES)])
        rows[-1].append(accuracy)
    return markdown(rows)


def _ratios_table(ratios: dict[str, dict[str, float]]) -> str:
    rows = [["", *(f"{SIDES[side]} / Thaw" for side in ratios)]]
    rows += [[words, *(f"{mine[name]:.2f}" for mine in ratios.values())] for name, words in TIMES.items()]
    rows.append(["accuracy, Thaw less theirs (points)", *(f"{r['accuracy_points']:+.2f}" for r in ratios.values())])
    return markdown(rows)


def _progress(run: dict[str, Any]) -> str:
    times = ", ".join(f"{words} {run[name]:.3g} s" for name, words in TIMES.items())
    last = f" ({run['accuracy_of_last']:.4f} with the last epoch's weights)" if "accuracy_of_last" in run else ""
    return f"{run['side']}, seed {run['seed']}: {times}, accuracy {run['accuracy']:.4f}{last}"


def _machine() -> dict[str, Any]:
    packages = {name: library_version(name) for name in ("tensorflow", "keras", "ray")}
    return {"cpus": os.cpu_count(), "python": platform.python_version(), **packages}


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    names = ("images", "head_epochs", "fine_tune_epochs", "workers", "seeds", "sides")
    return {name: getattr(options, name) for name in names}


if __name__ == "__main__":
    main()
