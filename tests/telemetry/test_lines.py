"""Every kind of event is shown somewhere: in a line, in the log, by a bar, a curve, a gauge, or on the RayJob."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job.deploy.annotations import FIGURES, annotations_of
from job.run import events
from job.run.events import Event, RunProgress
from job.telemetry.lines import lines_of

OTHERWISE = {
    "AttemptEnded": "files are closed, and what ends the run is told where it is caught",
    "FeaturesComputed": "a bar, or a line once in a while",
    "RunProgress": "the bar, the RayJob and standing.json",
    "ShardsIndexed": "a bar, or a line once in a while",
    "StepsMade": "a bar, or a line once in a while",
    "WeightsMeasured": "TensorBoard",
    "WorkerFailed": "is raised where the run is",
    "WorkersFormed": "between workers and driver alone",
    "WorkersForming": "between workers and driver alone",
}
"""Kinds of events without a line of their own, and what they are for."""


def kinds(of: type[Event] = Event) -> Iterator[type[Event]]:
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_all_kinds_are_in_one_module() -> None:
    assert {kind.__module__ for kind in kinds()} == {events.__name__}


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_kind_has_a_line_or_is_shown_otherwise(kind: type[Event]) -> None:
    has_line = lines_of.dispatch(kind) is not lines_of.dispatch(Event)
    assert has_line != (kind.__name__ in OTHERWISE)
    assert kind.kind, "it has a name in the JSON log"


def test_a_rayjob_has_all_figures_of_how_far_the_run_is() -> None:
    now = RunProgress("head", 50.0, 1, 2, 5, 10, None, 0.5, 0.875, 150.0, 10.0)
    assert annotations_of(now) == {
        "thaw/phase": "head",
        "thaw/percent": "50",
        "thaw/epoch": "5/10",
        "thaw/loss": "0.5000",
        "thaw/metric": "validation accuracy 0.8750",
        "thaw/rate": "150 examples/s",
        "thaw/left": "0:00:10",
    }
    assert annotations_of(RunProgress()).keys() == set(FIGURES)
