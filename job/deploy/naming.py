"""Which run a job would be, before it begins: its RayJob is named after it, so that twice the same is one RayJob."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from job.config import Job
from job.data.snapshot import Snapshot
from job.data.source import open_source
from job.data.sources.packed import list_shards, without_index
from job.errors import JobError
from job.registry.promotion import finished_outcome
from job.run.events import Announced, Emit, Noted
from job.run.identity import find_run, job_id, listing_id
from job.storage import open_store


@dataclass(frozen=True)
class Naming:
    id: str
    """What the RayJob is named after."""
    run: str | None = None
    """The run's id, where it is known already."""
    finished: str | None = None
    """The run's URI, where it is finished."""
    snapshot: Snapshot | None = None
    """The snapshot of the run's data, where it is known already."""


def name_run(job: Job, emit: Emit, *, new: bool = False) -> Naming:
    """Lists the source and names the run as `thaw run` does; with `new`, another run of the same thing.

    Which examples are in packed layouts is known once their shards are indexed, which takes Ray. So their RayJobs are
    named after the listing of the shards, whether there are indexes or not. In a folder of the cluster's own volume
    nothing can be listed from here: those RayJobs are named after the job file.
    """
    if not _is_in_reach(job):
        emit(Noted(f"{job.data.source} and {job.store} are not all on this machine: the cluster lists them"))
        if new:
            raise JobError(
                f"--new: the runs in {job.store} can't be seen from here: change `name`, or end the RayJob that there "
                "is (thaw cancel) and submit again."
            )
        return Naming(job_id(job))
    source, store = open_source(job), open_store(job.store, job.storage)
    emit(Announced(f"listing {source.uri}"))
    named = None
    if job.data.is_packed:
        shards = list_shards(job.data, source)
        named = listing_id(job, shards)
        if without_index(job.data, source, store, shards=shards):  # so there is no run of this so far
            return Naming(named)
    identified = find_run(job, source, store, emit=emit, new=new)
    outcome = finished_outcome(job, store, identified.run)
    id = identified.run if named is None else named + identified.run.removeprefix(identified.first)
    return Naming(id, identified.run, outcome.result.run if outcome else None, identified.snapshot)


def _is_in_reach(job: Job) -> bool:
    """Whether folders are on this machine too; that of the store may be made."""
    source, store = Path(job.data.source.removeprefix("file://")), Path(job.store.removeprefix("file://"))
    here = not job.data.source.startswith("file://") or source.is_dir()
    return here and (not job.store.startswith("file://") or store.is_dir() or store.parent.is_dir())
