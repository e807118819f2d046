"""The last stage of a run: its report, without which it is finished nevertheless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from job.errors import Interrupted
from job.report import finished
from job.report.finished import reported
from job.run.run import Run
from support.events import Heard, run_of
from support.finished import Made

RESULT = {"model": "file:///model/"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    store, run = Made(tmp_path).finish()
    return run_of(store, run)


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_a_report_that_can_not_be_made_is_a_warning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(finished, "render", failing(ZeroDivisionError("by nothing")))
    assert reported(run, RESULT, heard) == {**RESULT, "report": None}
    assert heard.of("warning") == [
        "The report could not be made (ZeroDivisionError: by nothing). The run is finished; "
        f"`thaw report {run.uri}` tries again."
    ]


def test_a_stop_is_heard_while_the_report_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "render", failing(Interrupted("SIGTERM")))
    with pytest.raises(Interrupted):
        reported(run, RESULT, Heard())


def test_a_report_is_linked_in_the_result(run: Run) -> None:
    assert reported(run, RESULT, Heard())["report"] == f"{run.uri}report/index.html"
    assert run.store.stat(run.keys.record)
    assert reported(run, {"model": None}, Heard()) == {"model": None}
