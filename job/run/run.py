"""A run in its store."""

from __future__ import annotations

from pathlib import Path

from job.errors import JobError
from job.storage import Store, open_store


def open_run(uri: str) -> tuple[Store, str]:
    """The store and the id of `<store>/runs/<id>/`, a URI or a folder of this machine. Raises JobError."""
    if "://" not in uri:
        uri = f"file://{Path(uri).resolve()}"
    root, separator, run = uri.rstrip("/").rpartition("/runs/")
    if not separator or not run or "/" in run:
        raise JobError(f"{uri}: no run's URI: it ends in runs/<id>/, as `thaw run` and `thaw submit` print it.")
    return open_store(f"{root}/"), run
