"""What Prometheus reads of an embedded run, scraped as it does."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.errors import JobError
from job.executors import local_metrics
from job.executors.local_metrics import PORT, Unread, metrics_here
from job.run.events import AttemptEnded, Bus, StageStarted
from job.storage import open_store
from job.telemetry.run_metrics import RunGauges
from job.training.throughput import CHECKPOINT_SECONDS, LABELS
from support.events import Executor, attempt_started
from support.servers import free_port

WHERE = {"run_id": "cells-1", "phase": "head", "rank": "0"}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    found = free_port()
    monkeypatch.setenv(PORT, str(found))
    yield found
    local_metrics._served.cache_clear()


def scraped(port: int) -> dict[str, float]:
    """Values by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_a_run_has_the_names_that_it_has_on_ray(port: int) -> None:
    metrics = metrics_here()
    metrics.counter("thaw_steps", "Steps.", LABELS).inc(3, WHERE)
    metrics.counter("thaw_steps", "Steps.", LABELS).inc(4, WHERE)
    metrics.gauge("thaw_loss", "Of the last step.", LABELS).set(0.5, WHERE)
    metrics.gauge("thaw_loss", "Of the last step.", LABELS).set(0.25, WHERE | {"phase": "fine_tune"})
    metrics.histogram("thaw_checkpoint_seconds", "Each.", LABELS, bounds=CHECKPOINT_SECONDS).observe(2.5, WHERE)
    found = scraped(port)
    labels = 'phase="head",rank="0",run_id="cells-1"'
    assert found[f"ray_thaw_steps_total{{{labels}}}"] == 7
    assert found[f"ray_thaw_loss{{{labels}}}"] == 0.5
    assert found['ray_thaw_loss{phase="fine_tune",rank="0",run_id="cells-1"}'] == 0.25
    buckets = {le: found[f'ray_thaw_checkpoint_seconds_bucket{{le="{le}",{labels}}}'] for le in ("1.0", "3.0", "+Inf")}
    assert buckets == {"1.0": 0, "3.0": 1, "+Inf": 1}
    assert found[f"ray_thaw_checkpoint_seconds_sum{{{labels}}}"] == 2.5


def test_all_runs_of_a_process_are_read_at_one_port(port: int, tmp_path: Path) -> None:
    store, executor = open_store(f"file://{tmp_path}/"), Executor(metrics_here())
    for run in ("cells-1", "cells-2"):
        bus = Bus()
        RunGauges(bus)
        for event in (
            attempt_started(store, run, executor=executor),
            StageStarted("features", workers=1),
            AttemptEnded(),
        ):
            bus.emit(event)
    found = scraped(port)
    assert found['ray_thaw_listed_examples{run_id="cells-1"}'] == 6
    assert found['ray_thaw_listed_examples{run_id="cells-2"}'] == 6


def test_a_port_that_is_taken_is_named(port: int) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        with pytest.raises(JobError, match=rf"^{PORT}={port}: no metrics can be served there: .*[Aa]ddress.*in use"):
            metrics_here()
    metrics_here().gauge("thaw_loss", "Of the last step.", LABELS).set(1.0, WHERE)
    assert len(scraped(port)) == 1, "once the other one has gone"


@pytest.mark.parametrize("wrong", ["x", "70000"])
def test_what_is_no_port_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PORT, wrong)
    with pytest.raises(JobError, match=rf"^{PORT}={wrong}: no metrics can be served there: ") as caught:
        metrics_here()
    assert caught.value.exit_code == 2


def test_without_a_port_nobody_listens_and_all_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PORT, raising=False)
    metrics = metrics_here()
    assert isinstance(metrics, Unread)
    metrics.counter("thaw_steps", "Steps.", LABELS).inc(3, WHERE)
    metrics.gauge("thaw_loss", "Of the last step.", LABELS).set(0.5, WHERE)
    metrics.histogram("thaw_checkpoint_seconds", "Each.", LABELS, bounds=CHECKPOINT_SECONDS).observe(2.5, WHERE)
