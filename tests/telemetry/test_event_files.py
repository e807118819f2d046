"""What TensorBoard reads of a run, read back by TensorBoard itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from job.errors import JobError, StorageError
from job.run.events import AttemptEnded, Bus, EpochEnded, TrainingEnded, TrainingStarted, Warned, WeightsMeasured
from job.run.outcome import EpochRecord
from job.storage import Store, open_store
from job.storage.run_keys import RunKeys
from job.telemetry.board import mirror
from job.telemetry.event_files import EventFiles
from job.telemetry.status import open_runs
from job.training.measure import histogram
from support.cases import slow
from support.events import Heard, attempt_started
from support.servers import answering, free_port


def epoch(steps: int, losses: list[float], number: int = 1) -> EpochEnded:
    record = EpochRecord(
        epoch=number,
        loss=float(np.mean(losses)),
        validation_loss=0.5,
        validation_accuracy=0.75,
        learning_rate=1e-3,
        seconds=2.0,
        examples=9,
        digest="abc",
    )
    return EpochEnded("head", record, steps=steps, losses=np.array(losses, np.float32))


def curves(store: Store, folder: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """As they are drawn: by name, the values at the steps."""
    mirror(store, "runs/", folder)
    found = EventAccumulator(str(folder / run), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@contextmanager
def recorded(store: Store, attempt: int = 1) -> Iterator[Bus]:
    """The bus of an attempt at the run `a`."""
    bus = Bus()
    EventFiles(bus)
    bus.emit(attempt_started(store, "a", attempt))
    yield bus
    bus.emit(AttemptEnded())


def test_both_phases_are_on_one_axis_and_what_is_done_again_is_drawn_once(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    with recorded(store) as bus:
        bus.emit(TrainingStarted(workers=2, resumed=None))
        bus.emit(epoch(2, [4, 3]))
        bus.emit(epoch(4, [2, 1], 2))
        bus.emit(TrainingStarted(workers=1, resumed=("head", 1, 0)))
        bus.emit(epoch(4, [2.5, 1.5], 2))
        bus.emit(TrainingEnded(kept="head", fine_tuned=False))
    with recorded(store, 2) as bus:
        bus.emit(TrainingStarted(workers=1, resumed=("fine_tune", 0, 0)))
        bus.emit(EpochEnded("fine_tune", EpochRecord(0, 0.5, 0.75)))
        bus.emit(epoch(6, [1.25, 1]))
    drawn = curves(store, tmp_path, "a")
    assert drawn["loss/step"] == [(1, 4), (2, 3), (3, 2.5), (4, 1.5), (5, 1.25), (6, 1)]
    assert drawn["loss/epoch"] == [(2, 3.5), (4, 2), (6, 1.125)]
    assert drawn["accuracy/validation"] == [(2, 0.75), (4, 0.75), (6, 0.75)]
    assert drawn["learning_rate"][-1] == (6, pytest.approx(1e-3))


def test_weights_are_drawn_as_histograms(tmp_path: Path) -> None:
    store, values = open_store(f"file://{tmp_path}/store"), np.array([[-1.0, 0.0], [0.25, 2.0]], np.float32)
    with recorded(store) as bus:
        bus.emit(TrainingStarted(workers=1, resumed=None))
        bus.emit(epoch(2, [4, 3]))
        bus.emit(WeightsMeasured(steps=2, histograms={"block5_conv/kernel": histogram(values)}))
    mirror(store, "runs/", tmp_path)
    (drawn,) = EventAccumulator(str(tmp_path / "a")).Reload().Histograms("weights/block5_conv/kernel")
    found = drawn.histogram_value
    assert (drawn.step, found.num, found.min, found.max, found.sum) == (2, 4, -1, 2, 1.25)
    assert sum(found.bucket) == 4
    assert [(limit, count) for limit, count in zip(found.bucket_limit, found.bucket, strict=True) if count] == [
        (pytest.approx(-0.9), 1),
        (pytest.approx(0.1), 1),
        (pytest.approx(0.3), 1),
        (2, 1),
    ]


def test_of_a_long_epoch_some_steps_are_drawn(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    with recorded(store) as bus:
        bus.emit(TrainingStarted(workers=1, resumed=None))
        bus.emit(epoch(2500, list(range(2500))))
    drawn = curves(store, tmp_path, "a")["loss/step"]
    assert drawn[:2] == [(1, 0), (4, 3)]
    assert len(drawn) == 834


def test_a_store_that_refuses_them_is_told_of_once_and_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, heard = open_store(f"file://{tmp_path}/store"), Heard()

    def refuse(*_: Any, **__: Any) -> str:
        raise StorageError("file:///store/x: no space left on device.")

    monkeypatch.setattr(type(store), "write", refuse)
    monkeypatch.setattr("job.telemetry.background_writer.INTERVAL", 0.05)
    with recorded(store) as bus:
        bus.subscribe(Warned, heard)
        for number in range(1, 4):
            bus.emit(TrainingStarted(workers=1, resumed=None))
            bus.emit(epoch(number, [1], number))
            time.sleep(0.2)
    assert heard.of("warning") == [
        "The run's event files for TensorBoard can't be written: file:///store/x: no space left on device."
    ]


def test_files_grow_where_they_are_and_others_are_left_alone(tmp_path: Path) -> None:
    """TensorBoard has them open."""
    store, folder = open_store(f"file://{tmp_path}/store"), tmp_path / "board"
    folder.mkdir()
    name = f"{RunKeys('a').tensorboard}events.out.tfevents.1"
    for key in (name, "runs/a/state.json", "runs/a/tensorboard/other", "runs/b/tensorboard/x/events.out"):
        store.write(key, b"12")
    assert mirror(store, "runs/", folder) == [name]
    with open(folder / "a/events.out.tfevents.1", "rb") as opened:
        assert opened.read() == b"12"
        assert mirror(store, "runs/", folder) == []
        store.write(name, b"1234")
        assert mirror(store, "runs/", folder) == [name]
        assert opened.read() == b"34"


@pytest.mark.parametrize("what", ["{store}", *slow("{store}runs/a/", "{folder}/store/runs/a", "{job}")])
def test_the_verb_serves_what_is_in_the_store(what: str, tmp_path: Path) -> None:
    store, port = open_store(f"file://{tmp_path}/store/"), free_port()
    with recorded(store) as bus:
        bus.emit(TrainingStarted(workers=1, resumed=None))
        bus.emit(epoch(1, [4]))
    store.write("runs/a/result.json", b"{}")
    (tmp_path / "job.yaml").write_text(f"{{name: a, data: {{source: 'file:///none/'}}, store: '{store.uri}'}}")
    where = what.format(store=store.uri, folder=tmp_path, job=tmp_path / "job.yaml")
    command = [sys.executable, "-m", "job", "tensorboard", where, "--port", str(port)]
    page = f"http://127.0.0.1:{port}/"
    with answering(command, page), urllib.request.urlopen(f"{page}data/plugin/scalars/tags", timeout=30) as answer:
        assert set(json.load(answer)["a"]) >= {"loss/step", "loss/epoch"}


def test_a_store_that_is_not_there_is_an_error_and_no_empty_page(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no storage URI"):
        open_runs("ftp://somewhere/")
    command = [sys.executable, "-m", "job", "tensorboard", f"file://{tmp_path}/none/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"thaw: file://{tmp_path}/none/ does not exist: check the path, or make the folder.\n"


@pytest.mark.parametrize("what", ["file://{folder}/store/runs/typo/", "{folder}/store/runs/typo"])
def test_a_run_that_is_not_there_is_an_error_and_no_empty_page(what: str, tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/store/").write("runs/a/result.json", b"{}")
    command = [sys.executable, "-m", "job", "tensorboard", what.format(folder=tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"thaw: file://{tmp_path}/store/runs/typo/: there is no such run")


@pytest.mark.parametrize(("what", "where"), [("runs/a/", "runs/a/tensorboard/"), *slow(("", "runs/"))])
def test_a_board_without_event_files_says_so_and_waits_for_them(what: str, where: str, tmp_path: Path) -> None:
    store, port = open_store(f"file://{tmp_path}/store/"), free_port()
    store.write("runs/a/result.json", b"{}")
    command = [sys.executable, "-m", "job", "tensorboard", f"{store.uri}{what}", "--port", str(port)]
    with (tmp_path / "told").open("wb") as told, answering(command, f"http://127.0.0.1:{port}/", stderr=told):
        pass
    assert f"thaw: {store.uri}{where}: there are no event files so far" in (tmp_path / "told").read_text()
