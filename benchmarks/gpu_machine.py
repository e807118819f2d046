"""What the figures of gpu.py were measured on: versions, GPUs and cores. No names of machines or users, no serials."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from job.executors.placement import cpus_here, named_gpus
from job.libraries import import_tensorflow, library_version
from job.planning.costs import memory_here

ROOT = Path(__file__).parents[1]
FIELDS = {"name": "name", "compute_capability": "compute_cap", "memory": "memory.total", "driver": "driver_version"}
"""Of a GPU, and what nvidia-smi calls them."""
NO_GPU = 6
"""The exit code, as of `thaw run` where a cluster has not what a run needs."""
LIBRARIES = ("tensorflow", "keras", "numpy")


def machine(gpu: bool) -> dict[str, Any]:
    """JSON types. Ends the process, with NO_GPU, where a GPU is asked for and the driver knows none."""
    gpus = _gpus() if gpu else []
    return {
        "gpus": gpus,
        "links": _answer("nvidia-smi", "topo", "-m") if len(gpus) > 1 else "",
        "processor": _processor(),
        "cores": cpus_here(),
        "memory_gib": round(memory_here() / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: library_version(name) for name in LIBRARIES},
        "tensorflow_build": _build(),
        "cuda_libraries": {found.name: found.version for found in distributions() if found.name.startswith("nvidia-")},
        "revision": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
    }


def _gpus() -> list[dict[str, str]]:
    """Those that this process may use."""
    query = f"--query-gpu={','.join(FIELDS.values())}"
    chosen = named_gpus()
    which = [] if chosen is None else [f"--id={','.join(chosen) or 'none'}"]
    try:
        answer = _answer("nvidia-smi", query, "--format=csv,noheader", *which)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stdout", "") or getattr(error, "stderr", "") or str(error)
        print(f"nvidia-smi tells of no GPU, so that there is nothing to measure: {said.strip()}", file=sys.stderr)
        sys.exit(NO_GPU)
    return [dict(zip(FIELDS, line.split(", "), strict=True)) for line in answer.splitlines()]


def _build() -> dict[str, Any]:
    """Of the TensorFlow that is installed: its CUDA, and the compute capabilities that it has kernels for."""
    import_tensorflow()
    import tensorflow as tf

    return {**tf.sysconfig.get_build_info(), "git": tf.version.GIT_VERSION, "compiler": tf.version.COMPILER_VERSION}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*command: str) -> str:
    """Empty where this is no clone."""
    try:
        return _answer("git", "-C", str(ROOT), *command)
    except (OSError, subprocess.CalledProcessError):
        return ""


def _answer(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
