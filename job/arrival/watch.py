"""`thaw watch`: turns a queue's messages into RayJobs. It stores no state of its own.

    receive ──▶ held ──when due──▶ decide (a thread for each job) ──▶ RayJob ──▶ delete
                 ▲ │
                extend

Events are hints, the bucket is the truth: a snapshot that is taken after a message was received covers it, whatever it
says. Messages are deleted last. So the process may be killed at any instant: its messages are delivered again, with the
same result, since a RayJob is named after its run.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

from job.arrival.coalesce import Coalescer
from job.arrival.held import Held
from job.arrival.launch import CREATED, DEFERRED, LOOK, Launched, is_active, launch
from job.arrival.log import Log
from job.arrival.owners import doubts
from job.arrival.promotions import Promotions
from job.arrival.queue import Queue
from job.arrival.queues import open_queue
from job.arrival.settings import Watch, load_watch
from job.arrival.sorting import Sorter
from job.arrival.targets import Target, load_targets
from job.arrival.watch_metrics import WatchMetrics, served
from job.deploy.api import RAYJOBS
from job.errors import JobError, ObjectMissing, ThawError, headline
from job.run.events import Emit
from job.run.interrupts import Interrupts

T = TypeVar("T")
POLL = 20.0
"""Seconds that a request waits for messages."""
SHORT_POLL = 5.0
"""Seconds that it waits where the process ends without messages (`until_empty`)."""
TICK = 1.0
"""Seconds between checks for messages to extend."""
PAUSE, LONGEST_PAUSE, LONGEST_OF_QUEUE = 1.0, 300.0, 30.0
"""Seconds of the pause after a failure, doubled after each in a row, and its limits. That for the queue is short,
so that held messages do not lapse after an outage.
"""
LOOK_AT_RUNS = 15.0
"""Seconds between checks of RayJobs."""
READY, ALIVE = 120.0, 2 * LONGEST_PAUSE
"""The most seconds since the queue answered for being ready, and since each loop turned for being alive."""
GRACE = 10.0
"""Seconds that the end waits for a decision in progress."""
ANSWER = 1.0
"""Seconds that the end waits for a response with messages; a request that still waits for messages is not waited
for.
"""


def watch(path: str, until_empty: bool, output: TextIO) -> None:
    """Watches the queue until SIGTERM, which raises Interrupted; with `until_empty`, until the queue is empty and all
    of its messages are covered.

    Raises ThawError for failures before the first message. All later failures are retried.
    """
    settings = load_watch(path)
    targets = load_targets(settings, Path(path).parent)
    queue, log, metrics = open_queue(settings.queue, settings.visibility), Log(output), WatchMetrics()
    watcher = Watcher(settings, targets, queue, log=log, metrics=metrics)
    server = (
        served(settings.listen, metrics, watcher.is_alive, is_ready=watcher.is_ready)
        if settings.listen
        else nullcontext()
    )
    with server as port:
        log("start", queue=queue.uri, jobs=list(targets), port=port)
        for text in doubts(settings, targets.values()):
            log("warning", text=text)
        watcher.run(until_empty)


class Launch(Protocol):
    """What launches a job: job.arrival.launch.launch, but in tests."""

    def __call__(
        self, target: Target, emit: Emit, first_event: float | None = None, *, over: threading.Event | None = None
    ) -> Launched: ...


class Watcher:
    """The loops of `thaw watch`. Each public method but `run` is one turn of a loop."""

    def __init__(
        self,
        settings: Watch,
        targets: dict[str, Target],
        queue: Queue,
        *,
        log: Log,
        metrics: WatchMetrics,
        clock: Callable[[], float] = time.monotonic,
        launch: Launch = launch,
    ) -> None:
        self._settings, self._targets, self._queue, self._log, self._metrics = settings, targets, queue, log, metrics
        self._clock, self._launch = clock, launch
        rules = zip(targets, settings.jobs, strict=True)
        coalescers = {name: Coalescer(rule.quiet_for, rule.max_wait) for name, rule in rules}
        self.held = Held(coalescers, settings.visibility, queue.longest, clock=clock)
        self._sorter = Sorter(settings, targets, metrics, log=log)
        self._promotions = {name: Promotions(target, metrics, log) for name, target in targets.items()}
        self._over = threading.Event()
        self._failures: dict[str, int] = {}
        self._turned = {"receive": clock(), "extend": clock()}
        self._answered: float | None = None
        self._fatal: ThawError | None = None
        metrics.held.set_function(lambda: len(self.held))
        metrics.oldest.set_function(lambda: max(0.0, time.time() - (self.held.oldest() or time.time())))

    def run(self, until_empty: bool = False) -> None:
        """Runs the loops in threads, as `watch` says."""
        loops: dict[str, Callable[[], None]] = {"extend": self._keep, "receive": partial(self._listen, until_empty)}
        loops |= {f"decide {name}": partial(self._serve, name) for name in self._targets}
        threads = {name: threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()}
        with Interrupts(once=True) as interrupts:
            try:
                for thread in threads.values():
                    thread.start()
                self._over.wait()
            finally:
                interrupts.ignore()
                self._end(threads)
        if self._fatal is not None:
            raise self._fatal

    def is_alive(self) -> bool:
        return all(self._clock() - turned < ALIVE for turned in self._turned.values())

    def is_ready(self) -> bool:
        """Whether the queue has answered lately. (While no more messages can be held, only extensions are
        requested.)
        """
        lately = READY + self._settings.visibility / 2
        return self._answered is not None and self._clock() - self._answered < lately

    def receive(self, seconds: float = POLL) -> int:
        """Receives and sorts messages for at most this many seconds; returns their number."""
        messages = self._queue.receive(seconds)
        self._answered, done = self._clock(), []
        for message in messages:
            jobs = self._sorter.jobs(message)
            if jobs:
                self.held.add(message, jobs)
            elif jobs is not None:
                done.append(message.handle)
        if done:
            self._queue.delete(done)
        return len(messages)

    def extend(self) -> None:
        """Extends the time for which held messages are hidden, and releases those that can't be hidden any longer."""
        lapsed, old, now = self.held.drop_lapsed(), self.held.drop_old(), self._clock()
        for outcome, count in (("lapsed", lapsed), ("released", len(old))):
            if count:
                self._metrics.messages.labels(outcome).inc(count)
                self._log(outcome, messages=count)
        if old:
            self._queue.release(old)
        if handles := self.held.to_extend():
            self._queue.extend(list(handles.values()))
            self.held.extended(handles, now)
            self._answered = self._clock()

    def decide(self, name: str) -> Launched | None:
        """Launches a job that is due, and deletes its messages once the decision is final. None where none are left."""
        first = self.held.begin(name)
        if first is None:
            return None
        try:
            done = self._launch(self._targets[name], self._log.of_job(name), first, over=self._over)
        except BaseException:
            self.held.again(name)
            raise
        self._report(name, done, first)
        if done.outcome == DEFERRED:
            self.held.again(name)
            return done
        handles = self.held.covered(name)
        self._queue.delete(handles)
        self._metrics.messages.labels("covered").inc(len(handles))
        return done

    def _report(self, name: str, done: Launched, first: float) -> None:
        seconds = max(0.0, time.time() - first)
        self._metrics.decisions.labels(name, done.outcome).inc()
        if done.outcome == CREATED:
            self._metrics.rayjobs.labels(name).inc()
            self._metrics.to_rayjob.labels(name).observe(seconds)
            self._promotions[name].created(str(done.name))
        fields = {"rayjob" if field == "name" else field: value for field, value in asdict(done).items()}
        self._log("decision", job=name, **fields, seconds_since_first_event=round(seconds, 3))

    def _listen(self, until_empty: bool) -> None:
        while not self._over.is_set():
            self._turned["receive"] = self._clock()
            if len(self.held) >= self._settings.max_held:
                self._over.wait(TICK)
                continue
            poll = SHORT_POLL if until_empty else POLL
            came = self._attempt("queue", partial(self.receive, poll), LONGEST_OF_QUEUE)
            if until_empty and came == 0 and not len(self.held):
                self._over.set()

    def _keep(self) -> None:
        while not self._over.wait(TICK):
            self._turned["extend"] = self._clock()
            self._attempt("visibility", self.extend, LONGEST_OF_QUEUE)

    def _serve(self, name: str) -> None:
        promotions, look = self._promotions[name], self._clock()
        while not self._over.is_set():
            if self.held.wait_until_due(name, LOOK_AT_RUNS):
                done = self._attempt(name, lambda: self.decide(name))
                if done is not None and done.outcome == DEFERRED:
                    self._await_end(name, str(done.name))
            if promotions.pending and self._clock() >= look:
                self._attempt(name, promotions.look)
                look = self._clock() + LOOK_AT_RUNS

    def _await_end(self, name: str, rayjob: str) -> None:
        """Waits for the end of a RayJob, where its job may have only one at a time."""
        api = self._targets[name].api
        while not self._over.wait(LOOK):
            active = self._attempt(name, lambda: is_active(api.get(RAYJOBS, rayjob)))
            if active is False:
                return

    def _attempt(self, where: str, action: Callable[[], T], longest_pause: float = LONGEST_PAUSE) -> T | None:
        """The result of the action; None after any failure and a pause. The next turn of the loop tries again."""
        try:
            result = action()
        except Exception as error:
            if where == "queue" and self._answered is None and isinstance(error, ObjectMissing):
                self._fatal = JobError(str(error))
                self._over.set()
                return None
            failures = self._failures[where] = self._failures.get(where, 0) + 1
            pause = min(PAUSE * 2 ** (failures - 1), longest_pause)
            ours = isinstance(error, ThawError)
            trace = None if ours else "".join(traceback.format_exception(error))
            self._metrics.errors.labels(where).inc()
            text = str(error) if ours else headline(error)
            self._log("error", where=where, text=text, tries_again_in=pause, traceback=trace)
            self._over.wait(pause)
            return None
        self._failures.pop(where, None)
        return result

    def _end(self, threads: dict[str, threading.Thread]) -> None:
        self._over.set()
        self.held.wake()
        receiving, until = threads.pop("receive"), time.monotonic() + GRACE
        for thread in filter(threading.Thread.is_alive, threads.values()):  # a signal may come before all have begun
            thread.join(max(0.0, until - time.monotonic()))
        if receiving.is_alive():
            receiving.join(ANSWER)
        released = self._let_go()
        if released and receiving.is_alive():
            receiving.join(ANSWER)
            self._let_go()  # the pending request received some of the released messages
        self._log("end", released=released)

    def _let_go(self) -> int:
        handles = self.held.drop_all()
        if handles:
            self._attempt("queue", lambda: self._queue.release(handles))
        return len(handles)
