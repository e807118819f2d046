from __future__ import annotations

from pathlib import Path

import pytest

from job.config import Job
from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot, take_snapshot
from job.registry.current import Entry, put_current, read_current
from job.registry.retrain_policy import decide, record, recorded
from job.run.outcome import Decision
from job.storage import Store, open_store


class Arrivals:
    """A folder of examples, and a job on it."""

    def __init__(self, root: Path, rules: str) -> None:
        (root / "source").mkdir()
        self.job: Job = parse_job(
            f"{{name: cells, data: {{source: 'file://{root}/source/'}}, store: 'file://{root}/store/', "
            f"retrain_when: {rules}}}"
        )
        self.source, self.store = open_store(self.job.data.source), open_store(self.job.store)

    def put(self, label: str, *numbers: int, content: bytes = b"x") -> None:
        for number in numbers:
            self.source.write(f"{label}/{number:04d}.png", content)

    def snapshot(self) -> Snapshot:
        return take_snapshot(self.job.data, self.source, self.store, task=self.job.task)

    def is_used(self) -> None:
        """A model of what is there now is in use."""
        entry = Entry("cells-1", "file:///model/", self.snapshot().id, "run", "2026-01-01T00:00:00+00:00")
        put_current(self.store, "cells", entry, before=read_current(self.store, "cells"))

    def decide(self) -> Decision:
        return decide(self.job, self.store, self.snapshot())


def arrivals(root: Path, rules: str) -> Arrivals:
    made = Arrivals(root, rules)
    made.put("a", *range(50))
    made.put("b", *range(50))
    return made


def test_the_first_run_trains(tmp_path: Path) -> None:
    assert arrivals(tmp_path, "{new_examples: 1000}").decide() == Decision(True, "no model is in use so far", 100)


def test_without_rules_every_run_trains(tmp_path: Path) -> None:
    found = arrivals(tmp_path, "null")
    found.is_used()
    assert found.decide().train is True


@pytest.mark.parametrize(("rules", "train"), [("0.05", True), ("0.06", False), ("5", True), ("6", False)])
def test_enough_new_examples_by_number_or_by_fraction(tmp_path: Path, rules: str, train: bool) -> None:
    found = arrivals(tmp_path, f"{{new_examples: {rules}}}")
    found.is_used()
    found.put("a", *range(100, 105))
    decision = found.decide()
    assert (decision.train, decision.new_examples, decision.current) == (train, 5, "cells-1")
    assert "5 new examples since the model in use, which was trained on 100" in decision.reason


def test_changed_and_relabelled_examples_are_new_and_deleted_ones_are_not(tmp_path: Path) -> None:
    found = arrivals(tmp_path, "{new_examples: 3}")
    found.is_used()
    found.put("a", 0, content=b"another picture")
    found.source.delete("a/0001.png")
    found.put("b", 1001)
    for number in range(10, 20):
        found.source.delete(f"b/{number:04d}.png")
    decision = found.decide()
    assert (decision.train, decision.new_examples) == (False, 2)


def test_a_new_class_trains_where_it_is_asked_for(tmp_path: Path) -> None:
    found = arrivals(tmp_path, "{new_examples: 1000}")
    found.is_used()
    found.put("c", *range(10))
    decision = found.decide()
    assert (decision.train, decision.new_classes) == (True, ("c",))
    job = found.job.model_copy(update={"retrain_when": found.job.retrain_when.model_copy(update={"new_class": False})})  # type: ignore[union-attr]
    assert decide(job, found.store, found.snapshot()).train is False


def test_where_a_shift_counts_the_features_are_waited_for(tmp_path: Path) -> None:
    found = arrivals(tmp_path, "{new_examples: null, shift: 0.01}")
    found.is_used()
    assert found.decide().train is False, "nothing is new"
    found.put("a", 100)
    assert found.decide().train is None


def test_a_snapshot_that_is_gone_leaves_nothing_to_compare_with(tmp_path: Path) -> None:
    found = arrivals(tmp_path, "{new_examples: 1000}")
    found.is_used()
    found.store.delete(f"snapshots/{found.snapshot().id}.json")
    found.put("a", 100)
    decision = found.decide()
    assert decision.train is True
    assert "is gone" in decision.reason


def test_a_decision_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    store: Store = open_store(f"file://{tmp_path}/store/")
    decision = Decision(False, "why", 3, ("c", "d"), 0.25, "cells-1")
    assert recorded(store, "cells-2") is None
    record(store, "cells-2", decision)
    assert recorded(store, "cells-2") == decision
