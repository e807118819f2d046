"""Maps a function over many items in Ray's tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import ray
import ray.data

from job.executors.ray.actors import carried, rows_of
from job.executors.ray.datasource import TASKS
from job.run.events import Emit

T = TypeVar("T")
R = TypeVar("R")


def map_unordered(function: Callable[[T], R], items: list[T], doing: str, *, emit: Emit) -> Iterator[R]:
    """The result for each item, in any order; results are values that Arrow can hold, or None. Needs Ray."""
    kept = ray.put(items)
    tasks = ray.data.from_items([{"at": at} for at in range(len(items))], override_num_blocks=min(len(items), TASKS))
    for row in rows_of(tasks.map(partial(_row, function, kept)), doing, emit):
        yield row["result"]


@carried()
def _row(function: Callable[[Any], Any], items: ray.ObjectRef, row: dict[str, Any]) -> dict[str, Any]:
    return {"result": function(ray.get(items)[row["at"]])}
