"""Ray Data's actors and rows, with readable errors: the first one, as it was raised."""

from __future__ import annotations

import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from job.errors import ClusterError, ThawError, headline
from job.features.extraction import Extraction
from job.run.events import Emit, Noted

if TYPE_CHECKING:
    import ray.data

Row = TypeVar("Row")
IDLE = 50.0
"""Seconds without a row, or a message of a training worker, before the user is told. (A log has a line a minute.)"""
LOW_MEMORY = "low on memory"
"""Ray's words for a process that it ended because its node had too little memory."""
TELLING = re.compile(f"task was killed|worker exit|the worker died|{LOW_MEMORY}", re.IGNORECASE)
"""Found in the line of Ray's error that gives the reason."""


class Carried(Exception):
    """Carries an error, its only argument, to the driver. Ray Data adds advice to the text of other errors."""


@contextmanager
def carried() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Carried(error) from error


class Actor(ABC, Generic[Row]):
    """An actor of Ray Data. Its start never fails, since Ray would keep only the text of the error.

    An error in `start` is raised for the first row instead.
    """

    def __init__(self, work: Extraction) -> None:
        self._failed: Exception | None = None
        try:
            self.start(work)
        except Exception as error:
            self._failed = error

    def __call__(self, row: Row) -> dict[str, Any]:
        with carried():
            if self._failed is not None:
                raise self._failed
            return self.process(row)

    @abstractmethod
    def start(self, work: Extraction) -> None:
        """Prepares the actor; called once in its process."""

    @abstractmethod
    def process(self, row: Row) -> dict[str, Any]:
        """The result for a row."""


def rows_of(data: ray.data.Dataset, doing: str, emit: Emit) -> Iterator[dict[str, Any]]:
    """The rows of a Ray data set. Emits a note a minute while no row comes.

    Raises a ThawError of the actors and tasks as it was, and ClusterError for any other failure. `doing` names the work
    in that error.
    """
    import ray.exceptions
    from ray.data.exceptions import ExecutionTimeoutError

    try:
        with _noting_idleness(doing, emit) as has_come:
            for row in data.iter_rows():
                has_come()
                yield row
    except ExecutionTimeoutError as error:
        minutes = ray.data.DataContext.get_current().execution_no_progress_timeout_s / 60
        cause_text = f"nothing came of it in {minutes:g} minutes, its processes found no room or ended as they started"
        raise cluster_error(doing, cause_text) from error
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", error)
        cause = cause.args[0] if isinstance(cause, Carried) else cause
        if isinstance(cause, ThawError):
            raise cause from error
        raise cluster_error(doing, one_line(cause)) from error


@contextmanager
def _noting_idleness(doing: str, emit: Emit) -> Iterator[Callable[[], None]]:
    """Yields a function to be called for each row. Notes the cluster's free resources after each minute without a
    call.
    """
    calls: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def watch() -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = calls.get(timeout=IDLE)
            except queue.Empty:
                with suppress(Exception):  # where Ray itself is gone, reading the rows raises the error
                    emit(Noted(f"{doing}: nothing came of it for {IDLE:g} s ({_room()})"))

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield lambda: calls.put(True)
    finally:
        calls.put(False)


def _room() -> str:
    """The cluster's free resources, such as `0 of 4 CPUs and 1 of 2 GPUs are free`."""
    import ray

    free, there = ray.available_resources(), ray.cluster_resources()
    parts = [f"{free.get(kind, 0):g} of {there[kind]:g} {kind}s" for kind in ("CPU", "GPU") if there.get(kind)]
    return f"{' and '.join(parts) or 'no CPUs'} are free"


def cluster_error(doing: str, cause: str) -> ClusterError:
    if LOW_MEMORY in cause:
        return ClusterError(
            f"{doing} failed on the cluster: {cause}. Give its nodes more memory, or each fewer workers."
        )
    return ClusterError(f"{doing} failed on the cluster: {cause} (--debug shows the workers' logs).")


def one_line(error: BaseException) -> str:
    """The headline of an error; for Ray's own errors, the first line and the line with the reason."""
    if not type(error).__module__.startswith("ray."):
        return headline(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    telling = next((line for line in lines if TELLING.search(line)), lines[-1])
    return " ".join(dict.fromkeys([lines[0], telling]))[:400]
