"""The last stage of a run: its report, without which it is finished nevertheless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from job.errors import Interrupted
from job.report import finished
from job.report.finished import report
from job.run.run import Run
from support.events import Heard, run_of
from support.finished import Made
from support.results import run_result

RESULT, NO_MODEL = (run_result("file:///store/runs/a/", model=model) for model in ("file:///model/", None))


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
    assert report(run, RESULT, heard) is None
    assert heard.of("warning") == [
        "The report could not be made (ZeroDivisionError: by nothing). The run is finished; "
        f"`thaw report {run.uri}` tries again."
    ]


def test_a_stop_is_heard_while_the_report_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "render", failing(Interrupted("SIGTERM")))
    with pytest.raises(Interrupted):
        report(run, RESULT, Heard())


def test_a_report_is_linked_in_the_result(run: Run) -> None:
    assert report(run, RESULT, Heard()) == f"{run.uri}report/index.html"
    assert run.store.stat(run.keys.record)
    assert report(run, NO_MODEL, Heard()) is None
