"""Ray Data's actors and rows, with errors that a person can read: the first one, as it was raised."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from job.errors import ClusterError, ThawError

if TYPE_CHECKING:
    import ray.data

Row = TypeVar("Row")
LOW_MEMORY = "low on memory"
"""Words of Ray, of a process that it ended because its node had too little."""
TELLING = re.compile(f"task was killed|worker exit|the worker died|{LOW_MEMORY}", re.IGNORECASE)
"""In the line of Ray's that says why."""


class Carried(Exception):
    """An error on its way to the driver: (error,). Ray Data writes advice into the text of any other."""


@contextmanager
def carried() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Carried(error) from error


class Actor(ABC, Generic[Row]):
    """Of Ray Data. It always starts, because of an actor that does not, Ray keeps the error's text alone.

    What fails as it starts is raised for the first row that it is given.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._failed: Exception | None = None
        try:
            self.start(config)
        except Exception as error:
            self._failed = error

    def __call__(self, row: Row) -> dict[str, Any]:
        with carried():
            if self._failed is not None:
                raise self._failed
            return self.process(row)

    @abstractmethod
    def start(self, config: dict[str, Any]) -> None:
        """Whatever takes long, once in a process."""

    @abstractmethod
    def process(self, row: Row) -> dict[str, Any]:
        """What becomes of a row."""


def rows_of(data: ray.data.Dataset, doing: str) -> Iterator[dict[str, Any]]:
    """Raises a ThawError that the actors and tasks carried as it was, and ClusterError where anything else failed.

    `doing`: what then failed, for the message.
    """
    import ray.exceptions
    from ray.data.exceptions import ExecutionTimeoutError

    try:
        yield from data.iter_rows()
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        cause = getattr(error, "cause", error)
        cause = cause.args[0] if isinstance(cause, Carried) else cause
        if isinstance(cause, ThawError):
            raise cause from error
        raise cluster_error(doing, one_line(cause)) from error


def cluster_error(doing: str, cause: str) -> ClusterError:
    if LOW_MEMORY in cause:
        return ClusterError(
            f"{doing} failed on the cluster: {cause}. Give its nodes more memory, or each fewer workers."
        )
    return ClusterError(f"{doing} failed on the cluster: {cause} (--debug shows the workers' logs).")


def one_line(error: BaseException) -> str:
    """An error's type and first line, or, of Ray's own errors, its headline and the line that tells why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if not type(error).__module__.startswith("ray."):
        return f"{type(error).__name__}: {lines[0]}".rstrip(": ")
    telling = next((line for line in lines if TELLING.search(line)), lines[-1])
    return " ".join(dict.fromkeys([lines[0], telling]))[:400]
