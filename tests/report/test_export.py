"""What an attempt makes of the exports that are there."""

from __future__ import annotations

from pathlib import Path

from job.report.export import _forget_before
from job.storage import open_store


def test_only_what_earlier_attempts_exported_is_deleted(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    keys = [f"runs/run/model/{name}" for name in ("1/a", "2/a", "2/saved_model/b", "10/a", "notes.txt")]
    for key in keys:
        store.write(key, b"x")
    _forget_before(store, "runs/run/model/", 2)
    assert sorted(info.key for info in store.list("runs/run/model/")) == sorted(keys[1:])
