"""The annotations of a RayJob that tell where its run stands; `kubectl get rayjob` shows them, too."""

from __future__ import annotations

from typing import Any

from job.run.events import RunProgress
from job.wording import clock

RUN, STORE = "thaw/run", "thaw/store"
FIRST_EVENT = "thaw/first-event"
"""When the first of the arrivals that this run covers was told, in ISO 8601."""
PHASE, PERCENT, EPOCH, LOSS, METRIC, RATE, LEFT = (
    f"thaw/{name}" for name in ("phase", "percent", "epoch", "loss", "metric", "rate", "left")
)
EXIT_CODE, ERROR, CLUSTER = "thaw/exit-code", "thaw/error", "thaw/cluster"
"""How the run ended, and in which RayCluster: each attempt has one of its own."""
FIGURES = (PHASE, PERCENT, EPOCH, LOSS, METRIC, RATE, LEFT)
COLUMNS = ",".join(
    [
        "NAME:.metadata.name",
        "STATUS:.status.jobDeploymentStatus",
        *(f"{name.removeprefix('thaw/').upper()}:.metadata.annotations.{name}" for name in FIGURES),
    ]
)
"""For `kubectl get rayjob -o custom-columns=…`."""


def ending(rayjob: dict[str, Any]) -> tuple[str, str]:
    """Exit code and error that `thaw run` has left; both empty where its attempt was not the last one."""
    annotations = rayjob["metadata"].get("annotations", {})
    if annotations.get(CLUSTER) != rayjob.get("status", {}).get("rayClusterName"):
        return "", ""
    return annotations.get(EXIT_CODE, ""), annotations.get(ERROR, "")


def progress_line(annotations: dict[str, str]) -> str:
    """Where the run stands, in one line; empty before it has begun."""
    if PHASE not in annotations:
        return ""
    percent = f"{annotations.get(PERCENT, '0'):>3} %"
    named = {EPOCH: "epoch ", LOSS: "loss ", METRIC: "", RATE: "", LEFT: ""}
    parts = [f"{before}{annotations[name]}" for name, before in named.items() if name in annotations]
    return "  ".join([percent, annotations[PHASE].replace("_", "-"), *parts]) + (" left" if LEFT in annotations else "")


def annotations_of(now: RunProgress) -> dict[str, str | None]:
    """The annotations that tell how far a run is; None deletes one."""
    epoch = None if now.epoch is None else f"{now.epoch}/{now.epochs}" if now.epochs else str(now.epoch)
    return {
        PHASE: now.phase,
        PERCENT: f"{now.percent:.0f}",
        EPOCH: epoch,
        LOSS: None if now.loss is None else f"{now.loss:.4f}",
        METRIC: None if now.accuracy is None else f"validation accuracy {now.accuracy:.4f}",
        RATE: f"{now.rate:.0f} examples/s" if now.rate else None,
        LEFT: None if now.left is None else clock(now.left),
    }
