"""Follows the RayJobs that arrivals started, and measures the time until their models were promoted."""

from __future__ import annotations

from datetime import datetime

from job.arrival.log import Log
from job.arrival.targets import Target
from job.arrival.watch_metrics import Metrics
from job.deploy.annotations import FIRST_EVENT, RUN
from job.deploy.api import RAYJOBS, Object
from job.deploy.follow import exit_code
from job.deploy.manifest import JOB
from job.storage import open_store, read_json
from job.storage.runs import RunKeys


class Promotions:
    """Follows the RayJobs of one job. Those that ended before this process began were counted by an earlier one."""

    def __init__(self, target: Target, metrics: Metrics, log: Log) -> None:
        self._target, self._metrics, self._log = target, metrics, log
        self._active: set[str] | None = None

    @property
    def pending(self) -> bool:
        """Whether a RayJob may have ended since the last look."""
        return self._active is None or bool(self._active)

    def created(self, name: str) -> None:
        self._active = (self._active or set()) | {name}

    def look(self) -> None:
        """Reports the RayJobs that have ended since the last look. Raises ThawError."""
        items, _ = self._target.api.list(RAYJOBS, labelSelector=f"{JOB}={self._target.name}")
        rayjobs = {item["metadata"]["name"]: item for item in items}
        before = self._active or set()
        self._active = {name for name, rayjob in rayjobs.items() if _is_awaited(rayjob)}
        for name in sorted(before - self._active):
            if name in rayjobs:
                self._report(rayjobs[name])

    def _report(self, rayjob: Object) -> None:
        name, annotations = rayjob["metadata"]["name"], rayjob["metadata"].get("annotations", {})
        code, run = exit_code(rayjob), annotations.get(RUN)
        store = open_store(self._target.job.store, self._target.job.storage)
        document = read_json(store, RunKeys(run).promotion) if run else None
        promotion = document if isinstance(document, dict) else {}
        promoted, seconds = promotion.get("promoted"), None
        if promoted and FIRST_EVENT in annotations:
            seconds = _seconds(annotations[FIRST_EVENT], promotion.get("at"))
        if seconds is not None:
            self._metrics.to_promotion.labels(self._target.name).observe(seconds)
        self._log(
            "ended",
            job=self._target.name,
            rayjob=name,
            run=run,
            exit_code=code,
            promoted=promoted,
            seconds_since_first_event=seconds,
        )


def _is_awaited(rayjob: Object) -> bool:
    return FIRST_EVENT in rayjob["metadata"].get("annotations", {}) and exit_code(rayjob) is None


def _seconds(first: str, at: object) -> float | None:
    """The seconds between two times in ISO 8601; None where one of them is invalid."""
    try:
        return max(0.0, (datetime.fromisoformat(str(at)) - datetime.fromisoformat(first)).total_seconds())
    except (ValueError, TypeError):  # no time, or only one of them with a time zone
        return None
