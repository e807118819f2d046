"""A watcher whose clock, queue and decisions a test controls."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

from job.arrival.launch import CREATED, Launched
from job.arrival.log import Log
from job.arrival.settings import Watch
from job.arrival.targets import Target
from job.arrival.watch import Watcher
from job.arrival.watch_metrics import WatchMetrics
from job.config import Job
from job.config.jobfile import checked, parse_job
from job.deploy.submit import Options
from job.run.events import Emit
from support.queues import InMemory, Mailbox


class Clock:
    """Seconds, which pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


class Watching:
    """A watcher whose loops the test turns, and whose decisions the test makes; with a `clock` that goes by itself it
    can run.
    """

    def __init__(self, jobs: list[dict[str, Any]], clock: Callable[[], float] | None = None, **settings: Any) -> None:
        self.clock, self.output = Clock(), io.StringIO()
        clock = clock or self.clock
        self.messages = Mailbox(clock)
        self.queue = InMemory(self.messages, 100)
        own = ("name", "bucket", "store")
        made = {job["name"]: job_of(**{key: job.pop(key) for key in own if key in job}) for job in jobs}
        rules = [{"job": "job.yaml", "overlay": "local", **job} for job in jobs]
        queue = "https://sqs.eu-central-1.amazonaws.com/111122223333/arrivals"
        document = {"queue": queue, "visibility": 100, "jobs": rules, **settings}
        watch = checked(Watch, document, "watch.yaml")
        self.metrics, self.launched = WatchMetrics(), []
        self.decide: Callable[..., Launched] = lambda *_, **__: Launched(CREATED, f"{_[0].name}-1")

        def launch(
            target: Target, emit: Emit, first_event: float | None = None, *, over: threading.Event | None = None
        ) -> Launched:
            self.launched.append(target.name)
            return self.decide(target, emit, first_event, over=over)

        targets = {name: Target(job, Options("local"), {}, None) for name, job in made.items()}  # type: ignore[arg-type]
        self.watcher = Watcher(
            watch, targets, self.queue, log=Log(self.output), metrics=self.metrics, clock=clock, launch=launch
        )

    def turn(self, seconds: float = 0.0) -> None:
        """Receives all that there is; then time passes, in steps in which what is held is extended, and jobs decide."""
        while self.watcher.receive(0):
            pass
        for _ in range(max(1, round(seconds / 10))):
            self.clock.forward(min(10.0, seconds))
            self.watcher.extend()
            for name in self.watcher._targets:
                if self.watcher.held.wait_until_due(name, 0):
                    self.watcher.decide(name)

    def told(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.output.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"thaw_watch_{name}", labels) or 0.0


def job_of(name: str, bucket: str = "cells", store: str | None = None) -> Job:
    data = f"{{source: 's3://{bucket}/images/', include: '*'}}"
    return parse_job(f"{{name: {name}, data: {data}, store: '{store or f's3://{bucket}/thaw/'}'}}")
