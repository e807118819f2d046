"""The annotations of a RayJob that tell where its run stands; `kubectl get rayjob` shows them, too."""

from __future__ import annotations

RUN, STORE = "thaw/run", "thaw/store"
FIRST_EVENT = "thaw/first-event"
"""When the first of the arrivals that this run covers was told, in ISO 8601."""
PHASE, PERCENT, EPOCH, LOSS, METRIC, RATE, LEFT = (
    f"thaw/{name}" for name in ("phase", "percent", "epoch", "loss", "metric", "rate", "left")
)
EXIT_CODE, ERROR = "thaw/exit-code", "thaw/error"
FIGURES = (PHASE, PERCENT, EPOCH, LOSS, METRIC, RATE, LEFT)
COLUMNS = ",".join(
    [
        "NAME:.metadata.name",
        "STATUS:.status.jobDeploymentStatus",
        *(f"{name.removeprefix('thaw/').upper()}:.metadata.annotations.{name}" for name in FIGURES),
    ]
)
"""For `kubectl get rayjob -o custom-columns=…`."""


def progress_line(annotations: dict[str, str]) -> str:
    """Where the run stands, in one line; empty before it has begun."""
    if PHASE not in annotations:
        return ""
    percent = f"{annotations.get(PERCENT, '0'):>3} %"
    named = {EPOCH: "epoch ", LOSS: "loss ", METRIC: "", RATE: "", LEFT: ""}
    told = [f"{before}{annotations[name]}" for name, before in named.items() if name in annotations]
    return "  ".join([percent, annotations[PHASE].replace("_", "-"), *told]) + (" left" if LEFT in annotations else "")
