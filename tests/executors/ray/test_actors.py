"""What a person is told where Ray Data gets nowhere."""

from __future__ import annotations

import time
from typing import Any

import pytest
import ray.data

from job.errors import ClusterError
from job.executors.ray import actors
from job.executors.ray.actors import rows_of
from job.telemetry.narrator import INTERVAL

pytestmark = pytest.mark.usefixtures("cluster")


def slow(row: dict[str, Any]) -> dict[str, Any]:
    time.sleep(4)
    return row


def test_a_note_while_no_row_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "IDLE", 1.0)
    notes: list[str] = []
    rows = rows_of(ray.data.range(1).map(slow), "Counting", lambda event: notes.append(f"{event.kind}: {event.text}"))
    assert list(rows) == [{"id": 0}]
    assert len(notes) >= 3
    assert notes[0].startswith("note: Counting: nothing came of it for 1 s (")
    assert notes[0].endswith(" CPUs are free)")
    said = len(notes)
    time.sleep(2)
    assert len(notes) == said


def test_what_finds_no_room_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.data.DataContext.get_current(), "execution_no_progress_timeout_s", 3)
    rows = rows_of(ray.data.range(1).map(slow, num_gpus=1), "Counting", lambda event: None)
    with pytest.raises(ClusterError, match=r"Counting failed on the cluster: nothing came of it in 0.05 minutes, its"):
        list(rows)


def test_a_person_is_told_of_idle_workers_before_a_log_would_tell_that_nothing_happens() -> None:
    """Else both would come, each minute."""
    assert actors.IDLE < INTERVAL
