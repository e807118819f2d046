"""What `thaw plan` expects of the demo's job, and what `thaw run` then takes, from an empty store.

python benchmarks/plan.py [--workers N] [--set KEY=VALUE …] [--json FILE]

All 2,624 photographs, embedded in one process, or with so many workers on Ray. Printed are the seconds of each stage on
both sides, and the ratio of the run to the plan as a whole. The command ends with 1 where that is not within LIMIT.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from tables import markdown

from job.demo.solar_cells import write_cells

LIMIT = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--json", metavar="FILE", help="write what was measured here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thaw-plan-") as temporary:
        job = _write_job(Path(temporary), options.workers)
        settings = [part for setting in options.settings for part in ("--set", setting)]
        plan = _thaw("plan", str(job), *settings, "--calibration")
        run = _thaw("run", str(job), *settings)
        timings = json.loads(Path(run["run"].removeprefix("file://"), "timings.json").read_text())
    expected = {stage["name"]: stage["seconds"]["likely"] for stage in plan["time"]["stages"] if stage["seconds"]}
    taken = defaultdict[str, float](float)
    for row in timings:
        taken[row["stage"]] += row["seconds"]
    ratio = sum(taken.values()) / plan["time"]["total"]["likely"]
    rows = [[name, *(_seconds(side.get(name)) for side in (expected, taken))] for name in {**expected, **taken}]
    rows.append(["in all", _seconds(sum(expected.values())), f"{_seconds(sum(taken.values()))} (**{ratio:.2f}**)"])
    print(markdown([["stage", "plan", "run"], *rows]))
    if options.json:
        Path(options.json).write_text(json.dumps({"plan": plan["time"], "timings": timings, "ratio": ratio}, indent=1))
    sys.exit(not 1 / LIMIT <= ratio <= LIMIT)


def _write_job(folder: Path, workers: str) -> Path:
    write_cells(folder / "data")
    text = files("job.demo").joinpath("solar_cells.yaml").read_text()
    values = {"SOURCE": f"file://{folder}/data/", "STORE": f"file://{folder}/store/", "WORKERS": workers}
    for name, value in values.items():
        text = text.replace(name, value)
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def _thaw(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "job", *arguments, "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _seconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s"


if __name__ == "__main__":
    main()
