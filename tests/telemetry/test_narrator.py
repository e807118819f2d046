"""What a person reads, and what a log has."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from job.data.snapshot import Snapshot
from job.model.anatomy import BlockSize
from job.run.events import (
    Announced,
    AttemptStarted,
    EpochEnded,
    Event,
    ExamplesRejected,
    FeaturesComputed,
    HandedOver,
    HeadTrained,
    LayersThawed,
    RunFound,
    SnapshotTaken,
    StepsMade,
    TrainingEnded,
    TrainingStarted,
    Warned,
)
from job.run.outcome import EpochRecord
from job.telemetry.narrator import Narrator
from job.telemetry.output import JsonOutput, TextOutput
from support.events import narrated
from support.results import metrics, run_result

COUNTED = ("train", "validation", "test")
COUNTS = {"defective": 3, "functional": 8}
EPOCH = {"loss": 0.44, "validation_loss": 0.375, "validation_accuracy": 0.8125, "seconds": 4.0, "examples": 1831}
SNAPSHOT = Snapshot("52ec", 33, [], dict.fromkeys(COUNTED, COUNTS), {"empty object": 1}, {}, {".txt": 8, ".dat": 1200})
TOLD: list[Event] = [
    Announced("listing s3://bucket/cells/"),
    SnapshotTaken(SNAPSHOT),
    RunFound("s3://bucket/store/runs/cells-f234600bf4b8/", ("head", "fine_tune")),
    AttemptStarted(2, None, None),  # type: ignore[arg-type]
    FeaturesComputed(0, 33, None),
    FeaturesComputed(11, 33, 2.0),
    FeaturesComputed(33, 33, 2.0),
    TrainingStarted(2, ("head", 1, 5)),
    StepsMade("head", 2, 60, 9, 58, 288, 0.5, 1.0),
    EpochEnded("head", EpochRecord(2, **EPOCH), epochs=60, steps=116, losses=np.zeros(3)),
    HeadTrained(converged=True, epoch=7, best=2),
    HandedOver(),
    HeadTrained(converged=True, epoch=7, best=2, before=True),
    LayersThawed([BlockSize("stem", 4, 992, 0), BlockSize("block15", 12, 1025408, 1009792)]),
    EpochEnded("fine_tune", EpochRecord(0, 0.375, 0.8125)),
    TrainingEnded("head", fine_tuned=True),
    Warned("the report can't be made"),
]
LINES = """\
00:00  listing s3://bucket/cells/
00:00  snapshot 52ec: 33 examples in 2 classes: 'functional' 24, 'defective' 9
00:00  left out: 1,208 (1,200 .dat, 8 .txt); rejected: 1 (1 empty object)
 class       train  validation  test
 defective       3           3     3
 functional      8           8     8
00:00  run s3://bucket/store/runs/cells-f234600bf4b8/
00:00  attempt 2
00:00  features: 0 of 33 examples
00:00  features: 33 of 33 examples, 2 a second
00:00  training on 2 workers, resumed from head epoch 1, step 5
00:00  head epoch   2  loss 0.4400  validation 0.3750, 81.2 % right  4.0 s
00:00  the head has converged after 7 epochs; the best was epoch 2
00:00  workers with GPUs go on from here
00:00  thawed
 block    layers  parameters  trainable
 stem          4         992          0
 block15      12   1,025,408  1,009,792
00:00  fine-tune epoch   0  before       validation 0.3750, 81.2 % right
00:00  fine-tuning did not help: the head-only model is the better one on the validation split
00:00  the report can't be made
"""


def text(tell: Callable[[Narrator], None], **terminal: Any) -> str:
    output = io.StringIO()
    tell(narrated(TextOutput(Console(file=output, **{"width": 4096, **terminal}), lambda: 0.0)))
    return output.getvalue()


def everything(narrator: Narrator) -> None:
    for event in TOLD:
        narrator.emit(event)


def documents(tell: Callable[[Narrator], None], clock: Callable[[], float] = time.monotonic) -> list[dict[str, Any]]:
    output = io.StringIO()
    tell(narrated(JsonOutput(output), clock))
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_run_in_lines() -> None:
    assert "\n".join(line.rstrip() for line in text(everything).splitlines()) + "\n" == LINES


def test_a_terminal_has_the_same_lines_and_a_bar_while_a_stage_is_under_way() -> None:
    terminal = {"force_terminal": True, "color_system": None, "legacy_windows": False, "width": 80}
    drawn = text(everything, **terminal)
    for line in LINES.splitlines():
        if "features: " not in line:
            assert " ".join(line.split()) in " ".join(drawn.split())
    assert "33 %  0:00:11 left  features: 11 of 33 examples, 2 a second" in drawn
    assert "2 %  0:06:19 left  head epoch 2 of 60, loss 0.5000" in drawn
    assert "\x1b[?25l" in drawn  # without a cursor
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


NARROW = """\
00:00  cache: stored at re_lu (3.5 KiB an example, 292 KiB of 9 GiB): an epoch
       reads for 0.0002 s instead of computing for 0.095 s on this machine
00:00  can't be read:
       s3://a-bucket/with/a/long/path/and/a/rather/long/name/of/an/object/too.png
       twice
00:00  fine-tune epoch  12  loss 0.4400  validation 0.3750, 100.0 % right  49 s
"""


def test_lines_end_between_words_and_a_uri_stays_whole() -> None:
    def tell(narrator: Narrator) -> None:
        told = "cache: stored at re_lu (3.5 KiB an example, 292 KiB of 9 GiB): an epoch reads for 0.0002 s instead of "
        narrator.emit(Announced(f"{told}computing for 0.095 s on this machine"))
        uri = "s3://a-bucket/with/a/long/path/and/a/rather/long/name/of/an/object/too.png"
        narrator.emit(Warned(f"can't be read: {uri} twice"))
        narrator.emit(
            EpochEnded("fine_tune", EpochRecord(12, 0.375, 1.0, loss=0.44, seconds=49.4, examples=1831), epochs=12)
        )

    assert text(tell, force_terminal=True, color_system=None, width=80) == NARROW
    assert max(map(len, NARROW.splitlines()[-1:])) <= 80


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (140, "fine-tune epoch 31 of 60, loss 0.5000, accuracy 0.8125, 288 a second"),
        (80, "fine-tune epoch 31 of 60, loss 0.5000"),
        (66, "fine-tune epoch 31 of 60"),
    ],
)
def test_a_bar_is_whole_and_tells_what_there_is_room_for(width: int, shown: str) -> None:
    def tell(narrator: Narrator) -> None:
        narrator.emit(EpochEnded("fine_tune", EpochRecord(0, 0.375, 0.8125)))
        step = {"epoch": 31, "epochs": 60, "step": 1, "steps": 58, "loss": 0.5, "examples": 288, "seconds": 1.0}
        narrator.emit(StepsMade(phase="fine_tune", **step))

    drawn = text(tell, force_terminal=True, color_system=None, width=width, _environ={})
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.replace("\r", "\n")).splitlines()
    bars = [line for line in lines if " left " in line]
    assert bars[-1].rstrip() == f"       {'━' * 6:<12}  50 %  0:28:59 left  {shown}"


def test_a_terminal_that_can_only_write_lines_has_lines() -> None:
    drawn = text(everything, force_terminal=True, _environ={"TERM": "dumb"})  # its lines are folded
    assert drawn.split() == LINES.split()


def test_of_many_classes_the_largest_and_the_smallest_are_told() -> None:
    counts = {f"class {number:04d}": number for number in range(1000)}

    def tell(narrator: Narrator) -> None:
        narrator.emit(SnapshotTaken(Snapshot("a", 1, [], dict.fromkeys(COUNTED, counts), {}, {})))

    lines = text(tell).splitlines()
    assert lines[0].endswith(
        "in 1,000 classes: 'class 0999' 2,997, 'class 0998' 2,994, 'class 0997' 2,991, 'class 0996' "
        "2,988, 'class 0995' 2,985 and 995 more"
    )
    assert len(lines) == 3 + 20 + 1
    assert [line.split() for line in (lines[3], lines[13], lines[-1])] == [
        ["class", "0999", "999", "999", "999"],
        ["…", "980", "more", "489510", "489510", "489510"],
        ["class", "0000", "0", "0", "0"],
    ]


def test_where_it_is_narrow_a_bar_has_one_line() -> None:
    def tell(narrator: Narrator) -> None:
        narrator.emit(FeaturesComputed(done=11, of=33, rate=2.0))

    drawn = text(tell, force_terminal=True, color_system=None, width=50)
    bar = next(line for line in drawn.replace("\r", "\n").splitlines() if "33 %" in line)
    assert bar.rstrip().endswith("…")


def test_a_log_has_a_document_a_line_that_says_where_it_is() -> None:
    told = documents(everything)
    assert [one["event"] for one in told] == [
        "stage", "snapshot", "snapshot", "run", "attempt", "progress", "progress", "start", "epoch", "head", "start",
        "thaw", "epoch", "trained", "warning",
    ]  # fmt: skip
    assert all(one["level"] in ("debug", "info", "warning") for one in told)
    assert "run" not in told[1]
    assert {(one["run"], one["attempt"]) for one in told[4:]} == {("cells-f234600bf4b8", 2)}
    epoch = told[8]
    del epoch["time"]
    assert epoch == {
        "level": "info",
        "message": "head epoch   2  loss 0.4400  validation 0.3750, 81.2 % right  4.0 s",
        "event": "epoch",
        "run": "cells-f234600bf4b8",
        "attempt": 2,
        "phase": "head",
        "epoch": 2,
        "epochs": 60,
        "steps": 116,
        **EPOCH,
    }


def test_a_log_tells_once_a_minute_how_far_a_stage_is() -> None:
    now = 1000.0

    def tell(narrator: Narrator) -> None:
        nonlocal now
        step = {"phase": "head", "epochs": 10, "steps": 100, "loss": 0.5}
        for second in range(1, 301):
            now += 1
            epoch, made = divmod(second - 1, 100)
            narrator.emit(
                StepsMade(epoch=epoch + 1, step=made + 1, examples=32 * (made + 1), seconds=made + 1.0, **step)
            )

    told = documents(tell, lambda: now)
    assert [(one["epoch"], one["step"]) for one in told] == [(1, 62), (2, 23), (2, 84), (3, 45)]
    assert told[0]["rate"] == 32.0
    assert told[0]["left"] == 938.0
    assert told[0]["message"] == "head epoch 1 of 10, loss 0.5000, 32 a second, 0:15:38 left"


def test_the_result_ends_a_log() -> None:
    result = run_result("s3://b/runs/x/", metrics={"head": metrics(0.75), "fine_tune": None})
    (told,) = documents(lambda narrator: narrator.result(result, {"image": "a.png"}))
    assert told["message"] == "finished: s3://b/runs/x/ (test accuracy: head 0.7500)"
    assert told["result"] == {"image": "a.png"}


def test_keys_are_told_as_they_are_whatever_brackets_they_have() -> None:
    def tell(narrator: Narrator) -> None:
        narrator.emit(ExamplesRejected(total=1, listing={}, decoding=["red/[/old]/a[1].png: empty file"]))
        narrator.emit(Warned("[bold] s3://bucket/[old]/x"))
        narrator.emit(SnapshotTaken(Snapshot("a", 1, [], {split: {"[/old]": 1} for split in COUNTED}, {}, {})))

    told = text(tell)
    assert "1 rejected: red/[/old]/a[1].png: empty file" in told
    assert "[bold] s3://bucket/[old]/x" in told
    assert " [/old] " in told


def test_a_line_break_in_a_key_does_not_break_a_log() -> None:
    (told,) = documents(lambda narrator: narrator.emit(Warned("a\nb\u2028c")))
    assert told["message"] == "a\nb\u2028c"
