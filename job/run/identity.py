"""A run is its inputs: its id is a digest of the job's meaning, the snapshot and the base weights."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from job.config import Job
from job.data.snapshot import Snapshot

FORMAT = 1


def run_id(job: Job, snapshot: Snapshot, base: dict[str, Any]) -> str:
    """`<name>-<12 hex digits>`: the same for every submission of the same thing."""
    meaning = {"format": FORMAT, "job": job.meaning(), "snapshot": snapshot.id, "base": base}
    text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
    return f"{job.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
