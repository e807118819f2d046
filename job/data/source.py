"""Where a job's examples lie."""

from __future__ import annotations

from job.config import Data
from job.storage import Store, open_store


def open_source(data: Data) -> Store:
    """The store of the examples, as the job file says to read it. No traffic yet."""
    return open_store(data.source, data.follow_links)
