"""The stages as a whole: what becomes of corrupt features, and what those who listen hear of an attempt."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from job import entry, pipeline
from job.errors import CorruptFeatures, TrainingError
from job.features.cache_plan import Plan
from job.features.store import MAX_CORRUPT
from job.pipeline import Attempt, on_features
from job.run.events import AttemptEnded, AttemptStarted
from job.run.interrupts import Interrupts
from job.run.outcome import Decision
from job.storage import open_store
from support.events import Executor, Heard, run_of

PLAN, YES = Plan(8), Decision(True, "")


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    run = run_of(open_store(f"file://{tmp_path}/"))
    return Attempt(run, 1, "all", Executor(), Interrupts(), Heard())  # type: ignore[arg-type]


class Features:
    """In place of the features of a run: so many of their parts turn out to be corrupt, one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, corrupt: int) -> None:
        self.left, self.completed, self.forgotten = corrupt, 0, list[str]()
        monkeypatch.setattr(pipeline, "complete_features", self.complete)
        monkeypatch.setattr("job.features.store.forget_file", lambda store, _, part: self.forgotten.append(part))

    def complete(self, run: Any, plan: Plan, executor: Any, *, emit: Any) -> Plan:
        self.completed += 1
        return plan

    def read(self, where: str) -> None:
        if self.left:
            self.left -= 1
            raise CorruptFeatures(f"{where}: a part is not what was written.", "featurizer", f"part {self.left}")


@pytest.mark.parametrize("where", ["completing", "training"])
def test_corrupt_features_are_computed_again_wherever_they_are_read(
    where: str, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words of texts are read while features are completed; a decision by features and training read them all."""
    features = Features(monkeypatch, corrupt=3)
    whole = features.complete

    def complete(*arguments: Any, **named: Any) -> Plan:
        if where == "completing":
            features.read(where)
        return whole(*arguments, **named)

    def use(plan: Plan) -> Decision:
        features.read(where)
        return YES

    monkeypatch.setattr(pipeline, "complete_features", complete)
    assert on_features(attempt, PLAN, use) == YES
    assert features.forgotten == ["part 2", "part 1", "part 0"]
    heard = attempt.emit
    assert isinstance(heard, Heard)
    assert heard.of("warning") == [f"{where}: a part is not what was written. It is computed again."] * 3


def test_what_is_always_corrupt_ends_the_attempt(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    features = Features(monkeypatch, corrupt=10**6)

    def use(plan: Plan) -> Decision:
        features.read("training")
        return YES

    with pytest.raises(CorruptFeatures):
        on_features(attempt, PLAN, use)
    assert features.completed == MAX_CORRUPT + 1


@pytest.mark.parametrize("error", [None, TrainingError("it diverged"), KeyboardInterrupt()])
def test_those_who_listen_hear_how_an_attempt_ends(error: BaseException | None, attempt: Attempt) -> None:
    heard = Heard()
    with (
        pytest.raises(type(error)) if error else nullcontext(),
        entry._attempt(attempt.run, 7, attempt.executor, emit=heard),
    ):
        if error:
            raise error
    started, ended = heard
    assert isinstance(started, AttemptStarted)
    assert isinstance(ended, AttemptEnded)
    assert (started.number, ended.error) == (7, error)


def test_a_listener_that_fails_at_the_beginning_ends_the_attempt_for_all(attempt: Attempt) -> None:
    heard = Heard()

    def emit(event: Any) -> None:
        heard(event)
        if isinstance(event, AttemptStarted):
            raise OSError("no threads left")

    with pytest.raises(OSError, match="no threads"), entry._attempt(attempt.run, 1, attempt.executor, emit=emit):
        raise AssertionError("nothing is done")
    assert [type(event) for event in heard] == [AttemptStarted, AttemptEnded]
