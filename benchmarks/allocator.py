"""What an epoch takes with memory from the system each step, with huge pages, and kept between steps; the ratios.

python benchmarks/allocator.py [--images N] [--rounds N]

Thaw's own run of peers.py on a part of its photographs, from an empty store with two workers, in turns, so that a slow
hour is everybody's. The medians of the rounds, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import markdown

SIDES = {
    "from the system": {"GLIBC_TUNABLES": ""},
    "kept": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "TF_CPU_ALLOCATOR_USE_BFC": "true"},
    "huge pages (Thaw)": {},
}
"""Environment variables in place of those that Thaw gives its workers."""
TIMES = {"head_epoch": "head epoch", "fine_tune_epoch": "fine-tune epoch", "whole": "whole run"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Where TensorFlow's memory comes from, and what an epoch takes.")
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="allocator-") as temporary:
        for _ in range(options.rounds):
            for side, changes in SIDES.items():
                found[side].append(_run(options.images, changes, Path(temporary)))
                told = ", ".join(f"{words} {found[side][-1][name]:.3g} s" for name, words in TIMES.items())
                print(f"{side}: {told}", file=sys.stderr, flush=True)
    medians = {
        side: {name: statistics.median(run[name] for run in runs) for name in TIMES} for side, runs in found.items()
    }
    ours = list(medians.values())[-1]
    rows = [["", *TIMES.values()]]
    rows += [
        [side, *(f"{mine[name]:.3g} ({mine[name] / ours[name]:.2f})" for name in TIMES)]
        for side, mine in medians.items()
    ]
    print(markdown(rows))


def _run(images: int, changes: dict[str, str], folder: Path) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).with_name("peers.py")), "--sides", "thaw", "--images", str(images)]
    command += ["--workers", "2", "--head-epochs", "4", "--fine-tune-epochs", "5", "--folder", str(folder / "data")]
    results = folder / "results.json"
    subprocess.run([*command, "--json", str(results)], check=True, stdout=subprocess.DEVNULL, env=os.environ | changes)
    return json.loads(results.read_text())["medians"]["thaw"]


if __name__ == "__main__":
    main()
