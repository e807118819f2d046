"""Drains a pod before its end: the run gets time for a checkpoint, and Ray is told that this node is about to go.

Kubernetes waits for it (a preStop hook) before it sends SIGTERM, at which `ray start` ends all of Ray at once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from job.errors import ClusterError
from job.run.interrupts import ASK
from job.run.processes import command_line, descendants
from job.wording import sentence

LOOK = 0.5
"""Seconds between checks for running processes."""


def drain(seconds: float, root: int = 1) -> bool:
    """Asks `thaw run` to end where it runs among the descendants of the process `root` (1 in a container), else tells
    Ray that this node is preempted. Then waits until neither `thaw run` nor a training worker is left, for at most
    `seconds`. Returns whether none is left.

    Processes that extract features are not waited for: they lose at most their current part.
    """
    until = time.monotonic() + seconds
    drivers = [process for process, words in _processes(root) if _is_driver(words)]
    for driver in drivers:
        with suppress(ProcessLookupError):
            os.kill(driver, ASK)  # a SIGTERM after one of Ray's would break off the run
    raylet = next((words for _, words in _processes(root) if Path(words[0]).name == "raylet"), None)
    if raylet and not drivers and _is_busy(root):
        _tell_ray(raylet, until - time.monotonic())
    while _is_busy(root):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK)
    return True


def _tell_ray(raylet: list[str], seconds: float) -> None:
    """Tells Ray that this node is preempted; `raylet` is the raylet's command line. Raises ClusterError."""
    options = dict(word.lstrip("-").split("=", 1) for word in raylet if word.startswith("--") and "=" in word)
    reason = ("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "this pod is about to end")
    command = [str(Path(sys.executable).parent / "ray"), "drain-node", "--address", options["gcs-address"], *reason]
    command += ["--node-id", options["node_id"], "--deadline-remaining-seconds", str(max(1, int(seconds)))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise ClusterError(f"Ray could not be told that this node is about to go: {sentence(lines[-1])}")


def _is_busy(root: int) -> bool:
    return any(_is_driver(words) or _is_worker(words) for _, words in _processes(root))


def _processes(root: int) -> list[tuple[int, list[str]]]:
    """The id and the command line of `root` and of all its descendants."""
    return [(process, command_line(process)) for process in (root, *descendants(root)) if process != os.getpid()]


def _is_driver(words: list[str]) -> bool:
    """Whether this is the command line of `thaw run`, or of `python -m job run`."""
    return any(Path(program).name in ("thaw", "job") for program, verb in pairwise(words[:5]) if verb == "run")


def _is_worker(words: list[str]) -> bool:
    """Whether this is a training worker. Ray's other actors may stay on a node until its end."""
    return words[0].startswith("ray::RayTrainWorker")
