"""Where a job's examples lie."""

from __future__ import annotations

from job.config import Job
from job.storage import Store, open_store


def open_source(job: Job) -> Store:
    """The store of the examples, as the job file says to read it. No traffic yet."""
    return open_store(job.data.source, job.storage, job.data.follow_links)
