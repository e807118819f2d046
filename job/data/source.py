"""Where a job's examples lie."""

from __future__ import annotations

from job.config import Job
from job.data.selection import Selection
from job.errors import JobError
from job.storage import Store, open_store


def open_source(job: Job) -> Store:
    """The store of the examples, as the job file says to read it. No traffic yet. Raises JobError where what runs write
    would be listed among them: a listing of folders leaves out a store below it.
    """
    source, below = open_store(job.data.source, job.storage, job.data.follow_links), f"{job.store.rstrip('/')}/"
    if below.startswith(source.uri) and (below == source.uri or job.data.is_packed):
        inside = below.removeprefix(source.uri)
        if not Selection(job.data, job.task).left_out(f"{inside}runs/file", listed=True):
            raise JobError(
                f"store: {job.store} lies in data.source ({source.uri}), so that what runs write would be read as "
                "examples: give it a folder of its own"
                + (f', or leave it out: data.exclude: ["{inside}*"].' if inside else ".")
            )
    return source
