"""A run is its inputs: its id is a digest of the job's meaning, the snapshot and the base weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from job.config import Job
from job.data.snapshot import Snapshot
from job.storage import Store
from job.train.runstate import state_key

FORMAT = 2


def run_id(job: Job, snapshot: Snapshot, base: dict[str, Any]) -> str:
    """`<name>-<12 hex digits>`: the same for every submission of the same thing."""
    meaning = {"format": FORMAT, "job": job.meaning(), "snapshot": snapshot.id, "base": base}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return f"{job.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def latest_run(store: Store, run: str, another: bool) -> str:
    """The latest of the runs of the same thing, which `--new` numbers (`<run>-2`, …); or, with `another`, a new one."""
    latest, number = run, 1
    if store.stat(state_key(run)) is None:
        return run
    while store.stat(state_key(following := f"{run}-{number + 1}")) is not None:
        latest, number = following, number + 1
    return following if another else latest
