"""How far a run has come, and what of that others can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from job.storage import open_store
from job.telemetry.run_progress import RunProgress, Tracker, describe, kept, read_progress

STEP = {"phase": "head", "epochs": 10, "steps": 100, "loss": 0.5}
EPOCH = {"loss": 0.5, "validation_loss": 0.25, "validation_accuracy": 0.875, "examples": 300, "seconds": 2.0}


def test_steps_fill_the_share_of_their_phase() -> None:
    tracker = Tracker()
    assert tracker.after("step", {**STEP, "epoch": 6, "step": 50, "examples": 1600, "seconds": 25.0})
    now = tracker.now
    assert (now.done, now.of, now.rate, now.left) == (550, 1000, 64.0, 225.0)
    assert now.percent == 40 + 20 * 0.55
    assert not tracker.after("note", {"text": "x"})


def test_the_accuracy_is_that_of_the_epoch_before_in_the_same_phase() -> None:
    tracker = Tracker()
    tracker.after("epoch", {"phase": "head", "epoch": 1, "epochs": 10, **EPOCH})
    tracker.after("step", {**STEP, "epoch": 2, "step": 50, "examples": 1600, "seconds": 25.0})
    assert tracker.now.accuracy == 0.875
    tracker.after("step", {**STEP, "phase": "fine_tune", "epoch": 1, "step": 50, "examples": 1600, "seconds": 25.0})
    assert tracker.now.accuracy is None


def test_the_head_alone_has_the_share_of_both_phases() -> None:
    alone, both = Tracker(fine_tunes=False), Tracker()
    for tracker in (alone, both):
        tracker.after("head", {})
    assert (alone.now.percent, both.now.percent) == (96, 60)


def test_it_is_described_in_one_line() -> None:
    assert describe(RunProgress()) == "preparing"
    assert describe(RunProgress("extract", done=1, of=9, rate=3.2, left=2.5)) == (
        "features: 1 of 9 examples, 3 a second, 0:00:02 left"
    )
    assert describe(RunProgress("fine_tune", epoch=0, loss=0.5, accuracy=0.75)) == (
        "fine-tune epoch 0, loss 0.5000, accuracy 0.7500"
    )


def test_others_read_how_far_an_attempt_is_and_not_how_far_another_was(tmp_path: Path) -> None:
    store, told = open_store(f"file://{tmp_path}/"), list[str]()

    def say(kind: str, **event: Any) -> None:
        told.append(kind)

    with kept(say, store, "run", attempt=2, fine_tunes=True) as both:
        both("note", text="x")
        both("extract", done=1, of=4, rate=None)
    assert told == ["note", "extract"]
    found = read_progress(store, "run", attempt=2)
    assert found == RunProgress("extract", 2 + 38 / 4, done=1, of=4)
    assert read_progress(store, "run", attempt=3) is None
    assert read_progress(store, "another", attempt=1) is None
