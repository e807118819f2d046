from __future__ import annotations

import json
from threading import Barrier, Thread

import pytest

from job.errors import JobError, StorageError, WriteConflict
from job.registry.current import Entry, promote, put_current, read_current, rollback
from job.storage import Store
from support.results import write_result


def entry(run: str) -> Entry:
    return Entry(run, f"file:///models/{run}/", f"snapshot-of-{run}", "run", "2026-01-01T00:00:00+00:00")


def finished(store: Store, run: str) -> None:
    write_result(store, run)
    store.write(f"runs/{run}/job.json", json.dumps({"name": "cells"}).encode())


def test_rolling_back_goes_through_all_models_before(store: Store) -> None:
    for run in ("a", "b", "c"):
        put_current(store, "cells", entry(run), before=read_current(store, "cells"))
    for old, new in (("c", "b"), ("b", "a")):
        left, back = rollback(store, "cells")
        assert (left.run, back.run, back.by) == (old, new, "rollback")
        current = read_current(store, "cells")
        assert current is not None
        assert (current.run, current.entry.model) == (new, f"file:///models/{new}/")
    with pytest.raises(JobError, match="a is the first model of cells"):
        rollback(store, "cells")


def test_rolling_back_is_one_write(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put_current(store, "cells", entry("a"), before=None)
    put_current(store, "cells", entry("b"), before=read_current(store, "cells"))
    written: list[str] = []
    conditional = store.write_if_unchanged

    def counted(key: str, data: bytes, version: str | None) -> str:
        written.append(key)
        return conditional(key, data, version)

    monkeypatch.setattr(store, "write_if_unchanged", counted)
    monkeypatch.setattr(store, "write", lambda *_, **__: pytest.fail("an unconditional write"))
    rollback(store, "cells")
    assert written == ["jobs/cells/current.json"]


def test_of_two_that_promote_at_once_one_is_refused(store: Store) -> None:
    put_current(store, "cells", entry("a"), before=None)
    seen = read_current(store, "cells")
    barrier, refused = Barrier(2), []

    def put(run: str) -> None:
        barrier.wait()
        try:
            put_current(store, "cells", entry(run), before=seen)
        except WriteConflict:
            refused.append(run)

    threads = [Thread(target=put, args=[run]) for run in ("b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    current = read_current(store, "cells")
    assert current is not None
    assert [current.run, *refused] in (["b", "c"], ["c", "b"])
    assert [before.run for before in current.previous] == ["a"]


def test_a_model_is_put_into_use_by_hand(store: Store) -> None:
    finished(store, "a")
    finished(store, "b")
    assert promote(store, "a").run == "a"
    assert promote(store, "b").run == "b"
    again = promote(store, "b")
    assert [before.run for before in again.previous] == ["a"], "the second time nothing is written"


def test_a_run_that_is_not_finished_has_no_model_to_put_into_use(store: Store) -> None:
    with pytest.raises(JobError, match="has no finished model"):
        promote(store, "a")


def test_a_try_with_fake_gpus_has_no_model_to_put_into_use(store: Store) -> None:
    finished(store, "a")
    result = json.loads(store.read("runs/a/result.json"))
    store.write("runs/a/result.json", json.dumps({**result, "fake_gpu": True}).encode())
    with pytest.raises(JobError, match="a try with fake GPUs"):
        promote(store, "a")


def test_nothing_to_roll_back(store: Store) -> None:
    with pytest.raises(JobError, match="no model of cells is in use"):
        rollback(store, "cells")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 1}', b'{"format": 1, "previous": [{"run": 1}]}'])
def test_a_file_that_was_tampered_with_is_refused_by_name(store: Store, content: bytes) -> None:
    store.write("jobs/cells/current.json", content)
    with pytest.raises(StorageError, match=r"jobs/cells/current.json is not what was written"):
        read_current(store, "cells")


def test_the_list_of_models_before_has_an_end(store: Store) -> None:
    for number in range(30):
        put_current(store, "cells", entry(str(number)), before=read_current(store, "cells"))
    current = read_current(store, "cells")
    assert current is not None
    assert [before.run for before in current.previous] == [str(number) for number in range(28, 8, -1)]
