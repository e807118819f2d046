"""A run: the inputs that determine it, and the keys of its objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from job.config import Job
from job.data.snapshot import Snapshot
from job.errors import JobError
from job.model.resolved import ResolvedBase
from job.storage import Store, open_store, read_json
from job.storage.run_keys import RunKeys, run_uri


@dataclass(frozen=True)
class Run:
    """One job on one snapshot, from one set of pretrained weights. Every stage takes it."""

    job: Job
    id: str
    store: Store
    """The store of the run. Writes of a superseded attempt raise Superseded."""
    snapshot: Snapshot
    base: ResolvedBase

    @property
    def keys(self) -> RunKeys:
        return RunKeys(self.id)

    @property
    def uri(self) -> str:
        return run_uri(self.store, self.id)


def read_job(store: Store, run: str) -> Job | None:
    """The job of a run; None where there is none. Raises JobError where it is of another version of Thaw."""
    stored = read_json(store, RunKeys(run).job)
    try:
        return None if stored is None else Job.model_validate(stored)
    except ValidationError as error:
        raise JobError(f"{store.uri}{RunKeys(run).job} is that of another version of Thaw.") from error


def open_run(uri: str) -> tuple[Store, str]:
    """The store and the id of a run by its URI or local folder, `<store>/runs/<id>/`. Raises JobError."""
    if "://" not in uri:
        uri = f"file://{Path(uri).resolve()}"
    root, separator, run = uri.rstrip("/").rpartition("/runs/")
    if not separator or not run or "/" in run:
        raise JobError(f"{uri}: no run's URI: it ends in runs/<id>/, as `thaw run` and `thaw submit` print it.")
    return open_store(f"{root}/"), run
