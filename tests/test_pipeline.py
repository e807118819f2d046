"""What must not cost a run that is finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from job.config.jobfile import parse_job
from job.errors import Interrupted
from job.model.anatomy import Anatomy
from job.model.classifier import Classifier
from job.pipeline import Attempt
from job.report import finished
from job.run.run import Run
from job.run.timings import Clock
from support.finished import Made


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def attempt(tmp_path: Path, told: list[str]) -> Attempt:
    """That of a finished run."""
    made = object.__new__(Attempt)
    store, run = Made(tmp_path).finish()
    made.store, made.run = store, Run(None, run, store, None, None)  # type: ignore[arg-type]
    made.clock = Clock(lambda kind, **event: told.append(f"{kind}: {event.get('text')}"))
    made.say = made.clock.say
    return made


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_a_report_that_can_not_be_made_is_a_warning(
    attempt: Attempt, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "render", failing(ZeroDivisionError("by nothing")))
    result = attempt._reported({"model": "file:///model/"})
    assert result == {"model": "file:///model/", "report": None}
    assert told[-1] == (
        "warning: The report could not be made (ZeroDivisionError: by nothing). The run is finished; "
        f"`thaw report {attempt.run.uri}` tries again."
    )


def test_a_card_that_can_not_be_made_is_a_warning(attempt: Attempt, told: list[str]) -> None:
    result = {"snapshot": "gone", "metrics": {}, "kept": "head"}
    assert attempt._card(result) is None
    assert told[-1].startswith("warning: The model card could not be made: ObjectMissing: ")


def test_a_stop_is_heard_while_the_report_is_made(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "render", failing(Interrupted("SIGTERM")))
    with pytest.raises(Interrupted):
        attempt._reported({"model": "file:///model/"})


def test_a_report_is_linked_in_the_result(attempt: Attempt) -> None:
    result = attempt._reported({"model": "file:///model/"})
    assert result["report"] == f"{attempt.run.uri}report/index.html"
    assert attempt.store.stat(attempt.run.keys.record)
    assert attempt._reported({"model": None}) == {"model": None}


def test_a_base_that_ends_in_a_classifier_is_a_warning_unless_the_job_says_so(
    attempt: Attempt, told: list[str]
) -> None:
    job = "{name: any, data: {source: 'file:///source/'}, store: 'file:///store/'}"
    anatomy = Anatomy((), 1, 0, 0, 0, (), Classifier("classes", 5, "softmax", "pool"))
    for settings, warnings in (((), 1), (("model.end_at=classes",), 0)):
        attempt.job = parse_job(job, settings)
        told.clear()
        attempt._warn_of_end(anatomy)
        assert len(told) == warnings
        assert all(text.startswith("warning: model.end_at: efficientnet_lite0 ends in a classifier") for text in told)
