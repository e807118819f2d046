"""The model in use: one object for each job, which only conditional writes change.

jobs/<name>/current.json   {format, run, model, snapshot, by, at, previous}

`previous` is a list of earlier entries, the latest first. Rolling back needs nothing but this object.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from job.config.jobfile import load_job
from job.errors import JobError, StorageError, WriteConflict
from job.run.outcome import RunResult
from job.storage import TRIES, Store, open_store, read_json, read_version
from job.storage.documents import read_document
from job.storage.run_keys import RunKeys, run_uri

FORMAT = 1
KEPT = 20
"""The number of earlier models that can be rolled back to."""


@dataclass(frozen=True)
class Entry:
    """A model that is, or was, the current one."""

    run: str
    model: str
    """The URI of the exported model."""
    snapshot: str
    by: str
    """The verb that made it the current one: `run`, `promote` or `rollback`."""
    at: str
    """The time when it became the current one, in UTC."""


@dataclass(frozen=True)
class Current:
    """The model in use, and those before it."""

    entry: Entry
    previous: tuple[Entry, ...]
    version: str
    """The version of the object."""

    @property
    def run(self) -> str:
        return self.entry.run


def current_key(name: str) -> str:
    return f"jobs/{name}/current.json"


def read_current(store: Store, name: str) -> Current | None:
    """The model in use; None where no model of this job is in use so far. Raises StorageError."""
    key = current_key(name)
    stored = read_version(store, key)
    if stored is None:
        return None
    content, version = stored
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise StorageError(f"{store.uri}{key} was written by another version of Thaw: update this one.")
        previous = tuple(Entry(**entry) for entry in document["previous"])
        fields = {name: document[name] for name in Entry.__dataclass_fields__}
        return Current(Entry(**fields), previous, version)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{store.uri}{key} is not what was written ({error}): put a good version of it back, or delete it and "
            "name the model in use with `thaw promote RUN`."
        ) from error


def put_current(store: Store, name: str, entry: Entry, *, before: Current | None) -> None:
    """Makes `entry` the current model in place of `before`, which becomes the first of `previous`. Raises WriteConflict
    where another model is current by now.
    """
    previous = (before.entry, *before.previous)[:KEPT] if before else ()
    _write(store, name, entry, previous=previous, over=before)


def promote(store: Store, run: str) -> Current:
    """Makes the model of a finished run the current one, whatever its metrics. Raises JobError."""
    result = read_document(store, RunKeys(run).result, RunResult)
    if result is None or result.model is None:
        raise JobError(f"{run_uri(store, run)} has no finished model: run it to its end first.")
    if result.fake_gpu:
        raise JobError(f"{run_uri(store, run)} was a try with fake GPUs (THAW_FAKE_GPU): its model is worth nothing.")
    name = job_name(store, run)
    for _ in range(TRIES):
        before = read_current(store, name)
        if before is not None and before.run == run:
            return before
        try:
            put_current(store, name, entry_of(run, result, "promote"), before=before)
        except WriteConflict:
            continue
    raise StorageError(f"{store.uri}{current_key(name)} could not be changed: others write it all the time.")


def rollback(store: Store, name: str) -> tuple[Entry, Entry]:
    """Makes the previous model the current one again, by one write. Returns the entry before and the new entry.

    Raises JobError where there is no previous model, and WriteConflict where someone else changed the object meanwhile.
    """
    where = f"{store.uri}{current_key(name)}"
    current = read_current(store, name)
    if current is None:
        raise JobError(f"{where}: no model of {name} is in use so far: there is nothing to roll back.")
    if not current.previous:
        raise JobError(f"{where}: {current.run} is the first model of {name}: there is none before it.")
    last, *older = current.previous
    entry = Entry(last.run, last.model, last.snapshot, "rollback", now())
    try:
        _write(store, name, entry, previous=tuple(older), over=current)
    except WriteConflict as error:
        latest = read_current(store, name)
        if latest is None or latest.entry != entry:  # else only the answer to our own write was lost
            raise WriteConflict(f"{where} was changed by someone else just now: look at it, then decide.") from error
    return current.entry, entry


def rollback_of(job: str) -> str:
    """Rolls back the model in use of a job file, or of …/jobs/<name>/, and returns what to tell."""
    root, separator, name = job.rstrip("/").rpartition("/jobs/")
    if "://" in job and not separator:
        raise JobError(f"{job}: write a job file, or the folder …/jobs/<name>/ in the store.")
    if "://" not in job:
        loaded = load_job(job)
        root, name = loaded.store, loaded.name
    old, new = rollback(open_store(root), name)
    return f"{new.model}\nis in use again (run {new.run}), in place of that of run {old.run}, in use since {old.at}."


def entry_of(run: str, result: RunResult, by: str) -> Entry:
    assert result.model is not None, "only a run with a model comes into use"
    return Entry(run, result.model, result.snapshot, by, now())


def job_name(store: Store, run: str) -> str:
    """The name of a run's job. Raises JobError."""
    job = read_json(store, RunKeys(run).job)
    if job is None:
        raise JobError(f"{run_uri(store, run)}: there is no such run.")
    return str(job["name"])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(store: Store, name: str, entry: Entry, *, previous: tuple[Entry, ...], over: Current | None) -> None:
    document = {"format": FORMAT, **asdict(entry), "previous": [asdict(earlier) for earlier in previous]}
    content = json.dumps(document, indent=1).encode()
    store.write_if_unchanged(current_key(name), content, over.version if over else None)
