"""Kills runs at random, in every stage, and compares what they end with to a run that nobody disturbed.

python benchmarks/chaos.py [--kills 40] [--seed 0] [--json FILE]

Two workers on photographs of solar cells, EfficientNet-Lite0, a checkpoint every 10 steps, in a folder of this machine.
Each run is killed up to 8 times (SIGKILL of a worker, of the driver, or of every process that it has started), each
time at a random moment, and started again by the same command; then a run on an empty store follows, until there were
as many kills as asked for. A run has lost nothing where the sha256 of its exported weights, its metrics and the digest
of each epoch are those of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kills import Outcome, random_kills, run_with_kills
from peers_recipe import MODEL, prepare
from tables import markdown

KILLS_OF_A_RUN = 8
JOB = """\
name: chaos
data: {{source: "file://{folder}/data/"}}
store: "file://{store}/"
model: {model}
phases:
  head: {{epochs: 20, learning_rate: 1e-3, patience: 20}}
  fine_tune: {{unfreeze: {{blocks: 1}}, epochs: 10, learning_rate: 1e-4, allow_unconverged_head: true}}
train: {{batch_size: 32, cache: "on"}}
scaling: {{workers: 2}}
checkpoint: {{every_steps: 10, every_minutes: null}}
recovery: {{max_failures: 100}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills runs at random.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--json", metavar="FILE", help="write everything measured here")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = Path(temporary)
        prepare(folder, options.images)
        wanted = _run(folder, "undisturbed", 0, chance)
        print(f"undisturbed: {wanted.seconds:.0f} s, weights {wanted.weights[:12]}", file=sys.stderr, flush=True)
        runs: list[Outcome] = []
        lost = 0
        while (left := options.kills - sum(len(run.struck) for run in runs)) > 0:
            runs.append(_run(folder, f"run-{len(runs)}", min(left, KILLS_OF_A_RUN), chance))
            same = _meaning(runs[-1]) == _meaning(wanted)
            lost += not same
            told = f"run {len(runs)}: {', '.join(runs[-1].struck) or 'no kill'}; {runs[-1].attempts} attempts, "
            told += f"{runs[-1].seconds:.0f} s: {'the same' if same else 'NOT THE SAME'}"
            print(told, file=sys.stderr, flush=True)
    struck = Counter(kill for run in runs for kill in run.struck)
    print(_table(struck))
    total = sum(struck.values())
    print(f"\n{total} kills in {len(runs)} runs; {lost} of them ended with something else than the undisturbed run")
    over = sum(run.seconds - wanted.seconds for run in runs) / total
    print(f"a kill costs {over:.1f} s, {over / wanted.seconds:.2f} of an undisturbed run ({wanted.seconds:.0f} s)")
    if options.json:
        document = {"kills": struck, "runs": [vars(run) for run in runs], "undisturbed": vars(wanted), "lost": lost}
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    raise SystemExit(1 if lost else 0)


def _run(folder: Path, name: str, kills: int, chance: random.Random) -> Outcome:
    store, job = folder / name, folder / f"{name}.yaml"
    model = json.dumps(MODEL.model_dump(mode="json"))
    job.write_text(JOB.format(folder=folder, store=store, model=model))
    command = [sys.executable, "-m", "job", "run", str(job), "--json"]
    environment = {"THAW_CACHE": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return run_with_kills(command, store, random_kills(kills, chance), environment)


def _meaning(run: Outcome) -> tuple[str, dict, list[str]]:
    """What must not change."""
    return run.weights, run.result["metrics"], run.digests


def _table(struck: Counter[str]) -> str:
    moments = sorted({kill.partition(": ")[0] for kill in struck})
    people = ("worker", "driver", "machine")
    rows = [["killed during", *people]]
    rows += [[moment, *(str(struck[f"{moment}: {who}"] or "") for who in people)] for moment in moments]
    return markdown(rows)


if __name__ == "__main__":
    main()
