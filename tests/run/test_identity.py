"""What is told while a run is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config.jobfile import parse_job
from job.model.resolved import ResolvedBase
from job.run import identity
from job.run.events import Event, ObjectsListed
from job.storage import objects, open_store


def test_what_was_assumed_of_the_label_file_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "known_base", lambda *_, **__: ResolvedBase("0" * 64))
    (tmp_path / "source").mkdir()
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    for number in range(60):
        source.write(f"{number}.jpg", b"x")
    source.write("labels.csv", ("key;label\n" + "".join(f"{n};{'ab'[n % 2]}\n" for n in range(60))).encode())
    job = parse_job(f"name: told\ndata: {{source: '{source.uri}', layout: table}}\nstore: {store.uri}\n")
    told: list[tuple[str, str]] = []
    identity.find_run(job, source, store, emit=lambda event: told.append((event.kind, getattr(event, "text", ""))))
    assert told == [
        ("snapshot", ""),
        (
            "warning",
            f"data.table: {source.uri}labels.csv: matched without an extension: 60 of its 60 keys ('0' is '0.jpg').",
        ),
    ]


def test_a_long_listing_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "known_base", lambda *_, **__: ResolvedBase("0" * 64))
    monkeypatch.setattr(objects, "PAGE", 20)
    (tmp_path / "source").mkdir()
    source, store = open_store(f"file://{tmp_path}/source/"), open_store(f"file://{tmp_path}/store/")
    for number in range(60):
        source.write(f"{'ab'[number % 2]}/{number}.jpg", b"x")
    job = parse_job(f"name: told\ndata: {{source: '{source.uri}'}}\nstore: {store.uri}\n")
    for seconds, counts in ((0.0, [20, 40, 60]), (60.0, [])):
        monkeypatch.setattr(identity, "EVERY", seconds)
        told: list[Event] = []
        identity.find_run(job, source, store, emit=told.append)
        assert [event.count for event in told if isinstance(event, ObjectsListed)] == counts
