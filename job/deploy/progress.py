"""Writes a run's progress on its own RayJob, from within the cluster; the run never waits for it.

KubeRay makes a new cluster for each attempt that failed, whatever it failed of. What another attempt can't mend (FINAL)
sets the RayJob's `backoffLimit` to 0 with its last state, before KubeRay sees that it has failed.

The answers tell how the RayJob stands. KubeRay gives one up that takes too long (activeDeadlineSeconds), or whose
submitter failed, without a word to the run, and keeps its cluster for an hour: so that nobody works for nothing until
then, the run is asked to end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from job.config.own_rayjob import own_rayjob
from job.deploy.annotations import CLUSTER, ERROR, EXIT_CODE, FIGURES, LEFT, PERCENT, PHASE, RATE, RUN, annotations_of
from job.deploy.api import RAYJOBS, Api, Object, connect
from job.deploy.refusals import RUN as ROLE
from job.deploy.refusals import Unreachable
from job.errors import ClusterError, DataError, JobError, LimitReached, TrainingError, exit_code_of
from job.run.events import Bus, Emit, RunFound, RunProgress, Warned

INTERVAL = 10.0
"""Seconds between two writes, but for those of another phase."""
LOOK = 60.0
"""Seconds after which the RayJob is looked at, where there is nothing to write: the role may patch it, and no more."""
LAST = 90.0
"""Seconds that the end of a run waits for its last state to be written, where the server has answered before."""
PAUSE = 1.0
"""Seconds between two tries to write the last state."""
FINAL = frozenset(error.exit_code for error in (JobError, DataError, TrainingError, LimitReached))
"""Exit codes of what another attempt would meet again: KubeRay is told to make none."""
LONGEST = 1000
"""Characters of an error."""
Annotations = dict[str, str | None]


@contextmanager
def annotated(bus: Bus, ask: Callable[[str], None]) -> Iterator[None]:
    """Writes how far the run is, while the block lasts, on the RayJob that this process is part of, if any.

    What ends the block is written as its exit code; what an earlier attempt left there goes at its begin. `ask` is
    called, from another thread and again and again, with who wants the run to end.
    """
    name, namespace = own_rayjob(), os.environ.get("THAW_NAMESPACE")
    if not name or not namespace:
        yield
        return
    writer = _Writer(name, namespace, bus.emit, ask=ask)
    here: Annotations = {CLUSTER: os.environ.get("THAW_CLUSTER")}
    writer.put({**dict.fromkeys([*FIGURES, EXIT_CODE, ERROR, CLUSTER]), PHASE: "start"})
    bus.subscribe(RunFound, lambda event: writer.put({RUN: event.id}))
    bus.subscribe(RunProgress, lambda now: writer.put(annotations_of(now)))
    try:
        yield
    except BaseException as error:
        line, code = " ".join(str(error).split()) or type(error).__name__, exit_code_of(error)
        writer.close({EXIT_CODE: str(code), ERROR: line[:LONGEST], **here}, is_final=code in FINAL)
        raise
    writer.close({EXIT_CODE: "0", PHASE: "done", PERCENT: "100", RATE: None, LEFT: None, **here})


class _Writer:
    """A thread that patches the annotations which were put since it last did."""

    def __init__(self, name: str, namespace: str, emit: Emit, *, ask: Callable[[str], None]) -> None:
        self._name, self._namespace, self._emit, self._ask = name, namespace, emit, ask
        self._wanted: Annotations = {}
        self._phase: str | None = None
        self._urgent = self._closed = self._is_final = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="progress", daemon=True)
        self._thread.start()

    def put(self, annotations: Annotations) -> None:
        with self._changed:
            self._wanted |= annotations
            if annotations.get(PHASE, self._phase) != self._phase:
                self._phase, self._urgent = annotations[PHASE], True
            self._changed.notify()

    def close(self, annotations: Annotations, *, is_final: bool = False) -> None:
        """Waits until all is written, though not for long: whoever reads it may be gone."""
        with self._changed:
            self._wanted |= annotations
            self._closed, self._is_final = True, is_final
            self._changed.notify()
        self._thread.join(LAST)

    def _write(self) -> None:
        api: Api | None = None
        answered = warned = closed = False
        while not closed:
            annotations, closed = self._next()
            try:
                api = api or connect(None, self._namespace, ROLE)
                self._patch(api, annotations, closed)
                answered = True
            except Exception as error:  # whatever it is, the run goes on
                with self._changed:
                    self._wanted = {**annotations, **self._wanted}
                if not warned:
                    warned = True
                    self._emit(Warned(f"The run's progress can't be written on its RayJob: {error}"))
                if closed and answered and isinstance(error, Unreachable):
                    closed = False  # until the process ends, which waits for a while
                    time.sleep(PAUSE)

    def _patch(self, api: Api, annotations: Annotations, closed: bool) -> None:
        spec = {"spec": {"backoffLimit": 0}} if closed and self._is_final else {}
        rayjob = api.patch(RAYJOBS, self._name, {"metadata": {"annotations": annotations}, **spec})
        if rayjob is None:
            raise ClusterError(f"There is no RayJob {self._name} in namespace {self._namespace}.")
        if not closed:
            self._look(rayjob)

    def _look(self, rayjob: Object) -> None:
        status = rayjob.get("status", {})
        if status.get("jobDeploymentStatus") == "Failed":
            self._ask(f"KubeRay, which has given the RayJob up ({status.get('reason', 'no reason given')})")

    def _next(self) -> tuple[Annotations, bool]:
        """What is to be written, once it is due; and whether it is the last."""
        last = time.monotonic()
        with self._changed:
            while not (self._urgent or self._closed):
                left = last + (INTERVAL if self._wanted else LOOK) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            annotations, self._wanted, self._urgent = self._wanted, {}, False
            return annotations, self._closed
