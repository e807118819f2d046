"""What came of the RayJobs that arrivals started: how long it took until a model was the current one."""

from __future__ import annotations

from datetime import datetime

from job.arrival.log import Log
from job.arrival.targets import Target
from job.arrival.watch_metrics import WatchMetrics
from job.deploy.annotations import FIRST_EVENT, RUN
from job.deploy.api import RAYJOBS, Object
from job.deploy.manifest import JOB
from job.deploy.stages import exit_code
from job.errors import BrokenDocument
from job.run.outcome import PromotionDecision
from job.storage import Store, open_store
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys


class Promotions:
    """The promotions of one job. What had ended before this process began was counted by an earlier one."""

    def __init__(self, target: Target, metrics: WatchMetrics, log: Log) -> None:
        self._target, self._metrics, self._log = target, metrics, log
        self._active: set[str] | None = None

    @property
    def pending(self) -> bool:
        """Whether there is anything to look for."""
        return self._active is None or bool(self._active)

    def created(self, name: str) -> None:
        self._active = (self._active or set()) | {name}

    def look(self) -> None:
        """Tells what has ended since the last look. Raises ThawError."""
        listing = self._target.api.list(RAYJOBS, label_selector=f"{JOB}={self._target.name}")
        rayjobs = {item["metadata"]["name"]: item for item in listing.items}
        before = self._active or set()
        self._active = {name for name, rayjob in rayjobs.items() if _is_awaited(rayjob)}
        for name in sorted(before - self._active):
            if name in rayjobs:
                self._tell(rayjobs[name])

    def _tell(self, rayjob: Object) -> None:
        name, annotations = rayjob["metadata"]["name"], rayjob["metadata"].get("annotations", {})
        code, run = exit_code(rayjob), annotations.get(RUN)
        store = open_store(self._target.job.store, self._target.job.storage)
        decision = self._decision(store, run) if run else None
        promoted, seconds = decision.promoted if decision else None, None
        if decision and promoted and FIRST_EVENT in annotations:
            seconds = _seconds(annotations[FIRST_EVENT], decision.at)
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

    def _decision(self, store: Store, run: str) -> PromotionDecision | None:
        try:
            return read_document(store, RunKeys(run).promotion, PromotionDecision)
        except BrokenDocument as error:  # looking again would not mend it
            self._log("warning", job=self._target.name, text=str(error))
            return None


def _is_awaited(rayjob: Object) -> bool:
    return FIRST_EVENT in rayjob["metadata"].get("annotations", {}) and exit_code(rayjob) is None


def _seconds(first: str, at: object) -> float | None:
    """Between two times in ISO 8601; None where one of them is none."""
    try:
        return max(0.0, (datetime.fromisoformat(str(at)) - datetime.fromisoformat(first)).total_seconds())
    except (ValueError, TypeError):  # no time, or only one of them with a time zone
        return None
