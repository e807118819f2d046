"""How far a run has come, and what of that others can read."""

from __future__ import annotations

from pathlib import Path

from job.run.events import (
    Announced,
    AttemptEnded,
    Bus,
    EpochEnded,
    Event,
    ExamplesRejected,
    FeaturesComputed,
    FirstStepMade,
    HeadTrained,
    LayersThawed,
    Noted,
    RunFound,
    RunProgress,
    ShardsIndexed,
    SnapshotTaken,
    StepsMade,
    TrainingEnded,
    TrainingStarted,
    Warned,
)
from job.run.outcome import EpochRecord
from job.storage import open_store
from job.telemetry.run_progress import ProgressFile, ProgressTracker, describe, read_progress
from support.events import SNAPSHOT, Heard, attempt_started

EPOCH = {"loss": 0.5, "validation_loss": 0.25, "validation_accuracy": 0.875, "examples": 300, "seconds": 2.0}


def progress_after(*events: Event) -> list[RunProgress]:
    """All that was emitted of how far the run is."""
    bus, heard = Bus(), Heard()
    ProgressTracker(bus)
    bus.subscribe(RunProgress, heard)
    for event in events:
        bus.emit(event)
    return heard


def steps(phase: str = "head", epoch: int = 2) -> StepsMade:
    return StepsMade(phase, epoch, 10, 50, 100, examples=1600, loss=0.5, seconds=25.0)


def test_steps_fill_the_share_of_their_phase() -> None:
    (now,) = progress_after(steps(epoch=6), Noted("x"))
    assert (now.done, now.of, now.rate, now.left) == (550, 1000, 64.0, 225.0)
    assert now.percent == 40 + 20 * 0.55


def test_the_accuracy_is_that_of_the_epoch_before_in_the_same_phase() -> None:
    found = progress_after(EpochEnded("head", EpochRecord(1, **EPOCH), epochs=10), steps(), steps("fine_tune", 1))
    assert [now.accuracy for now in found] == [0.875, 0.875, None]


def test_the_head_alone_has_the_share_of_both_phases() -> None:
    head = HeadTrained(converged=True, epoch=5, best=3)
    alone, both = (progress_after(RunFound("x", phases), head) for phases in (("head",), ("head", "fine_tune")))
    assert (alone[-1].percent, both[-1].percent) == (96, 60)


def test_it_is_described_in_one_line() -> None:
    assert describe(RunProgress()) == "preparing"
    assert describe(RunProgress("extract", done=1, of=9, rate=3.2, left=2.5)) == (
        "features: 1 of 9 examples, 3 a second, 0:00:02 left"
    )
    assert describe(RunProgress("fine_tune", epoch=0, loss=0.5, accuracy=0.75)) == (
        "fine-tune epoch 0, loss 0.5000, accuracy 0.7500"
    )


def test_others_read_how_far_an_attempt_is_and_not_how_far_another_was(tmp_path: Path) -> None:
    store, bus, heard = open_store(f"file://{tmp_path}/"), Bus(), Heard()
    ProgressTracker(bus)
    ProgressFile(bus)
    bus.subscribe(Event, heard)
    for event in (attempt_started(store, number=2), Noted("x"), FeaturesComputed(1, 4, None), AttemptEnded()):
        bus.emit(event)
    assert heard.kinds == ["attempt", "note", "progress", "extract", "attempt"], "it is known before the event is"
    assert read_progress(store, "run", attempt=2) == RunProgress("extract", 2 + 38 / 4, done=1, of=4)
    assert read_progress(store, "run", attempt=3) is None
    assert read_progress(store, "another", attempt=1) is None


RUN = RunFound("s3://bucket/thaw/runs/a/", ("head", "fine_tune"))
START = TrainingStarted(2, None)
CONVERGED = HeadTrained(converged=True, epoch=5, best=3)


def percents(*events: Event) -> list[int]:
    return [round(now.percent) for now in progress_after(*events)]


def features(done: int) -> FeaturesComputed:
    return FeaturesComputed(done, 100, 10.0)


def epoch(phase: str, number: int) -> EpochEnded:
    return EpochEnded(phase, EpochRecord(number, **EPOCH), epochs=10)


def resumed(phase: str, epochs: int, step: int) -> TrainingStarted:
    return TrainingStarted(1, (phase, epochs, step))


def test_percent_is_of_the_whole_run() -> None:
    assert percents(
        ShardsIndexed(1, 2),
        SnapshotTaken(SNAPSHOT),
        RUN,
        features(0),
        features(50),
        START,
        epoch("head", 5),
        CONVERGED,
        LayersThawed([]),
        EpochEnded("fine_tune", EpochRecord(0, 1.0, 0.5)),
        epoch("fine_tune", 5),
        TrainingEnded("head", fine_tuned=True),
    ) == [1, 1, 2, 2, 21, 40, 50, 60, 60, 60, 78, 96]
    assert percents(RunFound("x", ("head",)), START, epoch("head", 5), CONVERGED) == [2, 40, 68, 96]


def test_percent_never_falls() -> None:
    again = [epoch("fine_tune", 5), features(0), features(100), resumed("fine_tune", 4, 0)]
    assert percents(RUN, *again, epoch("fine_tune", 6)) == [2, 78, 78, 78, 78, 82]


def test_a_resumed_run_begins_where_it_goes_on() -> None:
    assert percents(RUN, resumed("fine_tune", 4, 7)) == [2, 60]


def test_what_says_nothing_of_progress_changes_nothing() -> None:
    others = (Announced("x"), Noted("x"), Warned("x"), ExamplesRejected(1, {}, []), FirstStepMade(0.0, {}))
    assert progress_after(*others) == []


def test_extracting_tells_its_rate_and_what_is_left() -> None:
    (now,) = progress_after(features(40))
    assert (now.rate, now.left) == (10.0, 6.0)
