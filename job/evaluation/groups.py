"""The accuracy of a model on each group (a module, a patient) of the label file."""

from __future__ import annotations

import pyarrow as pa

from job.config import Job
from job.data.source import open_source
from job.data.sources.table import read_table, with_resolved_keys
from job.errors import ThawError
from job.evaluation.intervals import MOST_GROUPS, GroupRow, group_rows
from job.evaluation.predictions import Predictions


def groups_of(job: Job, predictions: Predictions, model: str) -> tuple[list[GroupRow], str | None]:
    """The groups of the test split, the largest first, and the reason where they can't be listed. No groups and no
    reason where the job file names no column for them.
    """
    column = job.data.table.group if job.data.table else None
    if column is None:
        return [], None
    try:
        source = open_source(job)
        table = read_table(job.data, source)
        if job.data.label_table.text is None:
            keys = pa.array(sorted(predictions.keys))
            table = with_resolved_keys(table, lambda: [keys], source.uri)
    except (ThawError, OSError) as error:
        return [], f"The groups ({column}) could not be read: {error}"
    groups = dict(zip(table.rows["key"].to_pylist(), table.rows["group"].to_pylist(), strict=True))
    rows = group_rows([groups.get(key) for key in predictions.keys], predictions.right(model))
    if not rows:
        return [], f"The test split has more than {MOST_GROUPS} groups ({column}): they are not listed."
    return rows, None
