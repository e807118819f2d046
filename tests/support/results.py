"""result.json of runs that no test has trained."""

from __future__ import annotations

import json
from typing import Any

from job.report.curves import DepthSummary
from job.run.outcome import Metrics, RunResult
from job.storage import Store
from job.storage.documents import plain
from job.storage.run_keys import RunKeys, run_uri

RIGHT = [[1, 0], [0, 1]]


def metrics(accuracy: float = 0.9, confusion: list[list[int]] = RIGHT) -> Metrics:
    return Metrics(sum(map(sum, confusion)), accuracy, accuracy, roc_auc=None, loss=0.25, confusion=confusion)


def run_result(run: str, **changes: Any) -> RunResult:
    """The result of the run at this URI: a head alone, of two classes."""
    fields = {"snapshot": "s", "state": "finished", "classes": ["a", "b"], "model": f"{run}model/1/", "kept": "head"}
    return RunResult(**{"run": run, "metrics": {"head": metrics(), "fine_tune": None}, **fields, **changes})


def write_result(store: Store, run: str, **changes: Any) -> RunResult:
    """Makes it the result of the run with this id."""
    result = run_result(run_uri(store, run), **changes)
    store.write(RunKeys(run).result, json.dumps(plain(result)).encode())
    return result


def summary_of_depth(blocks: int, **changes: Any) -> DepthSummary:
    figures = {"runs": 3, "parameters": 1234567, "examples": 9, "accuracy": 0.8, "accuracy_deviation": 0.01}
    figures |= {"balanced_accuracy": 0.5, "balanced_accuracy_deviation": 0.0123}
    figures |= {"validation_loss": 0.25, "validation_loss_deviation": 0.0123, "seconds": 9.0}
    absent = {"roc_auc": None, "roc_auc_deviation": None, "seconds_deviation": None}
    return DepthSummary(blocks, **{**figures, **absent, **changes})
