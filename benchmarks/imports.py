"""What a process pays for TensorFlow and Keras before it has computed anything: `import`, and as Thaw imports them.

python benchmarks/imports.py [--rounds N] [PYTHON ...]

In fresh processes, in turns, with this environment's Python, or with those that are named: environments with different
wheels of TensorFlow, say. Medians of the rounds, of seconds of processor time, user and system, with the interpreter's
own start; the modules that are there afterwards; the process's memory at its largest. And what the environments take on
disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tables import markdown

ROOT = Path(__file__).parents[1]
WAYS = {
    "`import`": "import tensorflow, keras",
    "as Thaw does": "from job.libraries import import_tensorflow; import_tensorflow()",
}
TOLD = """
import json, resource, sys, sysconfig
from importlib.metadata import distributions
used = resource.getrusage(resource.RUSAGE_SELF)
names = {found.name.replace("_", "-"): found.version for found in distributions()}
print(json.dumps({
    "cpu": used.ru_utime + used.ru_stime,
    "modules": len(sys.modules),
    "memory": used.ru_maxrss / 1024,
    "wheels": sorted(f"{name} {names[name]}" for name in names if name in ("tensorflow", "tensorflow-cpu")),
    "folder": sysconfig.get_path("purelib"),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="What TensorFlow's import takes.")
    parser.add_argument("pythons", nargs="*", default=[sys.executable], metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sides = [(python, way) for python in options.pythons for way in WAYS]
    for side in sides:
        _run(*side)  # the files are in the system's cache, and their bytecode is there
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            runs[side].append(_run(*side))
    rows = [["wheel", "", "CPU seconds", "modules", "MiB"]]
    for (_, way), made in runs.items():
        cpu, modules, memory = (statistics.median(run[name] for run in made) for name in ("cpu", "modules", "memory"))
        rows.append([", ".join(made[0]["wheels"]), way, f"{cpu:.1f}", f"{modules:.0f}", f"{memory:.0f}"])
    print(markdown(rows))
    for python in options.pythons:
        run = runs[python, next(iter(WAYS))][0]
        whole, ours = (_gigabytes(Path(run["folder"], name)) for name in (".", "tensorflow"))
        print(f"\n{', '.join(run['wheels'])}: {whole:.2f} GB in site-packages, {ours:.2f} of it in tensorflow.")


def _run(python: str, way: str) -> dict[str, Any]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, "-c", WAYS[way] + TOLD], env=environment, capture_output=True, check=True)
    return json.loads(done.stdout)


def _gigabytes(folder: Path) -> float:
    """As `du` counts, in blocks; without bytecode, of which there is as much as was imported so far."""
    files = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return sum(os.lstat(file).st_blocks * 512 for file in files if not file.endswith(".pyc")) / 1e9


if __name__ == "__main__":
    main()
