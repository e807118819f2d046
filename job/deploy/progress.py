"""Writes a run's progress on its own RayJob, from within the cluster; the run never waits for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from job.deploy.annotations import ERROR, EXIT_CODE, FIGURES, LEFT, PERCENT, PHASE, RATE
from job.deploy.api import RAYJOBS, Api, connect
from job.deploy.figures import Figures
from job.errors import ClusterError, exit_code_of

INTERVAL = 10.0
"""Seconds between two writes, but for those of another phase."""
LAST = 20.0
"""Seconds that the end of a run waits for its last figures to be written."""
LONGEST = 1000
"""Characters of an error."""
Say = Callable[..., None]
Annotations = dict[str, str | None]


@contextmanager
def reported(say: Say) -> Iterator[Say]:
    """`say`, which also writes down what it is told on the RayJob that this process is part of, if any.

    What ends the block is written as its exit code; what an earlier attempt left there goes at its begin.
    """
    name, namespace = os.environ.get("THAW_RAYJOB"), os.environ.get("THAW_NAMESPACE")
    if not name or not namespace:
        yield say
        return
    writer, figures, lock = _Writer(name, namespace, say), Figures(), threading.Lock()
    writer.put({**dict.fromkeys(FIGURES), EXIT_CODE: None, ERROR: None, PHASE: "start"})

    def both(kind: str, **event: Any) -> None:
        say(kind, **event)
        with lock:
            writer.put(figures.after(kind, event))

    try:
        yield both
    except BaseException as error:
        line = " ".join(str(error).split()) or type(error).__name__
        writer.close({EXIT_CODE: str(exit_code_of(error)), ERROR: line[:LONGEST]})
        raise
    writer.close({EXIT_CODE: "0", PHASE: "done", PERCENT: "100", RATE: None, LEFT: None})


class _Writer:
    """A thread that patches the annotations which were put since it last did."""

    def __init__(self, name: str, namespace: str, say: Say) -> None:
        self._name, self._namespace, self._say = name, namespace, say
        self._wanted: Annotations = {}
        self._phase: str | None = None
        self._urgent = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
        self._thread.start()

    def put(self, annotations: Annotations) -> None:
        with self._changed:
            self._wanted |= annotations
            if annotations.get(PHASE, self._phase) != self._phase:
                self._phase, self._urgent = annotations[PHASE], True
            self._changed.notify()

    def close(self, annotations: Annotations) -> None:
        """Waits until all is written, though not for long: whoever reads it may be gone."""
        with self._changed:
            self._wanted |= annotations
            self._closed = True
            self._changed.notify()
        self._thread.join(LAST)

    def _write(self) -> None:
        api: Api | None = None
        told = closed = False
        while not closed:
            annotations, closed = self._next()
            try:
                api = api or connect(None, self._namespace)
                if annotations and api.patch(RAYJOBS, self._name, {"metadata": {"annotations": annotations}}) is None:
                    raise ClusterError(f"There is no RayJob {self._name} in namespace {self._namespace}.")
            except Exception as error:  # whatever it is, the run goes on
                with self._changed:
                    self._wanted = {**annotations, **self._wanted}
                if not told:
                    told = True
                    self._say("warning", text=f"The run's progress can't be written on its RayJob: {error}")

    def _next(self) -> tuple[Annotations, bool]:
        """What is to be written, once it is due; and whether it is the last."""
        due = time.monotonic() + INTERVAL
        with self._changed:
            while not (self._urgent or self._closed or (self._wanted and time.monotonic() >= due)):
                self._changed.wait(max(0.0, due - time.monotonic()) if self._wanted else None)
            annotations, self._wanted, self._urgent = self._wanted, {}, False
            return annotations, self._closed
