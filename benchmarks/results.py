"""How good the models are: the 2,624 photographs of solar cells, divided as the published work divides them.

python benchmarks/results.py [--seeds 0 1 2 3 4] [--set phases.fine_tune.epochs=3 …] [--json FILE]
for a quick look: --images 96 --seeds 0 --set phases.head.epochs=2 --set phases.fine_tune.epochs=1

The protocol of Deitsch et al. 2019, "Automatic classification of defective photovoltaic module cells in
electroluminescence images": a cell is defective where its label is above 0.5, and a quarter of the cells, with the
classes in proportion, is the test split. Of the other three quarters a sixth is the validation split: what decides when
the head has converged, how deep is thawed, and which epoch is kept. The test split decides nothing.

Each seed has a division, first weights and an order of its own. results.yaml is the job. Features are stored once for
all seeds; of runs that are made `--at-once` each may store what another one stores too.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tables import markdown

from job.config import Job
from job.config.jobfile import load_job
from job.demo.solar_cells import PUBLISHED, write_cells
from job.run.child import run_thaw
from job.telemetry.console import spread
from job.wording import METRICS

TEST, VALIDATION = 1 / 4, 1 / 8
"""Parts of each class."""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="results-") as temporary:
        folder = Path(options.folder or temporary).resolve()
        write_cells(folder / "cells")
        cells = _cells(folder / "cells", options.images)
        jobs = [_job(folder, cells, seed, options.set) for seed in options.seeds]
        with ThreadPoolExecutor(options.at_once) as pool:
            rows = list(pool.map(_run, jobs))
    print(f"{_seeds_table(rows)}\n\n{_means_table(rows)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"runs": rows}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Test accuracy on the solar cells, over seeds.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--images", type=int, help="a part of the photographs, the classes in proportion")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="as `thaw run --set`")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs side by side")
    parser.add_argument("--folder", help="keep photographs and store here, and go on with what is there")
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    return parser.parse_args()


def _cells(folder: Path, images: int | None) -> dict[str, list[str]]:
    """Keys by class, or so many of them."""
    found = {label.name: sorted(f"{label.name}/{file.name}" for file in label.iterdir()) for label in folder.iterdir()}
    part = 1.0 if images is None else images / sum(map(len, found.values()))
    return {label: keys[: round(len(keys) * part)] for label, keys in sorted(found.items())}


def _divided(cells: dict[str, list[str]], seed: int) -> list[tuple[str, str, str]]:
    """(key, label, split) of each cell, the classes in proportion in each split."""
    chance, rows = random.Random(seed), []
    for label, keys in cells.items():
        mixed = chance.sample(keys, len(keys))
        tests, validations = round(len(keys) * TEST), round(len(keys) * VALIDATION)
        splits = ["test"] * tests + ["validation"] * validations + ["train"] * (len(keys) - tests - validations)
        rows += [(key, label, split) for key, split in zip(mixed, splits, strict=True)]
    return sorted(rows)


def _job(folder: Path, cells: dict[str, list[str]], seed: int, overrides: list[str]) -> Job:
    labels = folder / f"labels-{seed}.csv"
    labels.write_text("key,label,split\n" + "".join(",".join(row) + "\n" for row in _divided(cells, seed)))
    where = {"data.source": "cells/", "store": "store/", "data.table.file": labels.name}
    places = [f"{name}=file://{folder}/{path}" for name, path in where.items()]
    return load_job(Path(__file__).parent / "results.yaml", [*overrides, *places, f"train.seed={seed}"])


def _run(job: Job) -> dict[str, Any]:
    seed = job.train.seed
    heard = partial(_tell, seed)
    result = json.loads(run_thaw("run", job, "--json", on_line=heard))
    metrics = {phase: {name: found[name] for name in METRICS} for phase, found in result["metrics"].items()}
    row = {name: result[name] for name in ("run", "kept", "thawed")}
    heard(json.dumps(metrics))
    return {"seed": seed, **row, "metrics": {**metrics, "chosen": metrics[result["kept"]]}}


def _tell(seed: int, line: str) -> None:
    print(f"seed {seed}: {line}", file=sys.stderr, flush=True)


def _seeds_table(rows: list[dict[str, Any]]) -> str:
    """What was decided with each seed, and what it came to."""
    table = [
        ["seed", "blocks that stay thawed", "blocks tried", *(f"{words}, head only" for words in METRICS.values())]
    ]
    table[0] += list(METRICS.values())
    for row in rows:
        stay = max((tried["blocks"] for tried in row["thawed"] if tried["pays"]), default=0)
        numbers = [row["metrics"][model][name] for model in ("head", "chosen") for name in METRICS]
        table.append([str(row["seed"]), str(stay), str(len(row["thawed"])), *(f"{number:.4f}" for number in numbers)])
    return markdown(table)


def _means_table(rows: list[dict[str, Any]]) -> str:
    """On the test split, over the seeds."""
    table = [[f"mean ± standard deviation of {len(rows)} seeds", *METRICS.values()]]
    for model, words in {"head": "head only", "chosen": "fine-tuned, as deep as `auto` chose"}.items():
        found = [[row["metrics"][model][name] for row in rows] for name in METRICS]
        deviations = [statistics.stdev(values) if len(values) > 1 else None for values in found]
        cells = zip(map(statistics.fmean, found), deviations, strict=True)
        table.append([words, *(spread(mean, deviation, 4) for mean, deviation in cells)])
    table.append([PUBLISHED[0], f"{PUBLISHED[1]:.4f}", "", ""])
    return markdown(table)


if __name__ == "__main__":
    main()
