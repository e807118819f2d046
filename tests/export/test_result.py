"""What must not cost a run its model."""

from __future__ import annotations

from pathlib import Path

from job.export.result import card_of
from support.events import Heard, run_of
from support.finished import Made
from support.results import run_result


def test_a_card_that_can_not_be_made_is_a_warning(tmp_path: Path) -> None:
    heard = Heard()
    run = run_of(*Made(tmp_path).finish())
    assert card_of(run, run_result(run.uri, snapshot="gone"), heard) is None
    assert heard.texts[-1].startswith("warning: The model card could not be made: ObjectMissing: ")
