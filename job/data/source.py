"""Opens the source of a job's examples."""

from __future__ import annotations

from job.config import Job
from job.data.selection import Selection
from job.errors import JobError
from job.storage import Store, open_store


def open_source(job: Job) -> Store:
    """The store of the examples, opened without any traffic. Raises JobError where the files that runs write would be
    listed among the examples. (The layout `folders` leaves out a store below the source.)
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
