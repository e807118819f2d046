"""What is told while a run is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.config.jobfile import parse_job
from job.model.resolved import ResolvedBase
from job.run import identity
from job.storage import open_store


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
