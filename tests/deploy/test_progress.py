"""What a run writes on its RayJob, and that it never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.deploy.progress import annotated
from job.errors import ClusterError, DataError, Interrupted, JobError, StorageError, TrainingError
from job.run.events import Bus, EpochEnded, LayersThawed, RunFound, TrainingStarted, Warned
from job.run.outcome import EpochRecord
from job.telemetry.run_progress import ProgressTracker
from support.events import Heard
from support.kube import DROP, Kube

NAME = "cells-0123456789ab"
EPOCH = {"loss": 0.5, "validation_loss": 0.25, "validation_accuracy": 0.875, "examples": 300, "seconds": 2.0}


@pytest.fixture
def in_pod(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """The environment of the head's pod; the annotations of its RayJob."""
    left = {"thaw/exit-code": "4", "thaw/error": "of the attempt before", "thaw/cluster": "before"}
    left |= {"thaw/loss": "9.9", "thaw/run": NAME}
    kube.put("rayjobs", {"metadata": {"name": NAME, "annotations": left}})
    monkeypatch.setenv("THAW_RAYJOB", NAME)
    monkeypatch.setenv("THAW_NAMESPACE", "thaw")
    monkeypatch.setenv("THAW_CLUSTER", f"{NAME}-x7k2p")
    return lambda: kube.get("rayjobs", NAME)["metadata"]["annotations"]


def asked_by_nobody(by: str) -> None:
    raise AssertionError(by)


@contextmanager
def reporting(ask: Callable[[str], None] = asked_by_nobody) -> Iterator[Bus]:
    """The bus of a run whose progress is written on its RayJob."""
    bus = Bus()
    ProgressTracker(bus)
    with annotated(bus, ask):
        yield bus


def written(kube: Kube, annotations: Callable[[], dict[str, str]], name: str, text: str | None) -> None:
    kube.wait_for(lambda: annotations().get(f"thaw/{name}") == text)


def test_phases_are_written_at_once_and_the_end_with_its_code(kube: Kube, in_pod: Any) -> None:
    with reporting() as bus:
        written(kube, in_pod, "phase", "start")
        assert in_pod() == {"thaw/phase": "start", "thaw/run": NAME}  # what an earlier attempt left is gone
        bus.emit(RunFound(uri=f"s3://bucket/thaw/runs/{NAME}-2/", phases=("head", "fine_tune")))
        written(kube, in_pod, "run", f"{NAME}-2")
        bus.emit(EpochEnded("head", EpochRecord(5, **EPOCH), epochs=10))
        written(kube, in_pod, "phase", "head")
        assert in_pod() == {
            "thaw/run": f"{NAME}-2",
            "thaw/phase": "head",
            "thaw/percent": "50",
            "thaw/epoch": "5/10",
            "thaw/loss": "0.5000",
            "thaw/metric": "validation accuracy 0.8750",
            "thaw/rate": "150 examples/s",
            "thaw/left": "0:00:10",
        }
    assert in_pod()["thaw/phase"] == "done"
    assert in_pod()["thaw/percent"] == "100"
    assert in_pod()["thaw/exit-code"] == "0"
    assert "thaw/left" not in in_pod()


def test_within_a_phase_it_writes_once_in_an_interval(kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with reporting() as bus:
        bus.emit(EpochEnded("head", EpochRecord(1, **EPOCH), epochs=100))
        written(kube, in_pod, "phase", "head")
        before = len(kube.requests)
        for epoch in range(2, 100):
            bus.emit(EpochEnded("head", EpochRecord(epoch, **EPOCH), epochs=100))
        assert len(kube.requests) == before
    assert len(kube.requests) == before + 1
    assert in_pod()["thaw/epoch"] == "99/100"
    monkeypatch.setattr("job.deploy.progress.INTERVAL", 0.05)
    with reporting() as bus:
        for epoch in (1, 2):
            bus.emit(EpochEnded("head", EpochRecord(epoch, **EPOCH), epochs=100))
            written(kube, in_pod, "epoch", f"{epoch}/100")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("no labelled\nexamples"), "3", "no labelled examples"),
        (OSError("disk full"), "4", "disk full"),
        (ZeroDivisionError(), "1", "ZeroDivisionError"),
        (DataError("x" * 5000), "3", "x" * 1000),
    ],
)
def test_what_ends_a_run_is_written(error: Exception, code: str, text: str, kube: Kube, in_pod: Any) -> None:
    with pytest.raises(type(error)), reporting():
        raise error
    left = {name: in_pod()[f"thaw/{name}"] for name in ("exit-code", "error", "cluster")}
    assert left == {"exit-code": code, "error": text, "cluster": f"{NAME}-x7k2p"}


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        *((error("a"), True) for error in (JobError, DataError, TrainingError)),
        *((error("a"), False) for error in (StorageError, ClusterError, Interrupted, OSError, ZeroDivisionError)),
    ],
)
def test_kuberay_does_not_try_again_what_would_fail_again(
    error: Exception, is_final: bool, kube: Kube, in_pod: Any
) -> None:
    kube.edit("rayjobs", NAME, {"spec": {"backoffLimit": 3}})
    with pytest.raises(type(error)), reporting():
        raise error
    assert kube.get("rayjobs", NAME)["spec"]["backoffLimit"] == (0 if is_final else 3)
    assert in_pod()["thaw/error"]


def test_a_run_that_succeeds_changes_no_spec(kube: Kube, in_pod: Any) -> None:
    kube.edit("rayjobs", NAME, {"spec": {"backoffLimit": 3}})
    with reporting():
        pass
    assert kube.get("rayjobs", NAME)["spec"] == {"backoffLimit": 3}


@pytest.mark.parametrize("refusals", [[], [403], [401, 403]])
def test_the_last_state_is_written_when_a_server_comes_back(
    refusals: list[int], kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.deploy.progress.PAUSE", 0.01)

    def fails_while_it_is_away() -> None:
        written(kube, in_pod, "phase", "start")
        kube.stop()
        for status in refusals:
            for _ in range(8):
                kube.answer("PATCH", "rayjobs", status, {"message": "forbidden"})
        threading.Timer(1.0, kube.start).start()
        raise DataError("no labelled examples")

    with pytest.raises(DataError), reporting():
        fails_while_it_is_away()
    assert in_pod()["thaw/exit-code"] == "3"
    assert in_pod()["thaw/error"] == "no labelled examples"


def test_a_server_that_never_answered_is_not_waited_for(
    kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.deploy.progress.PAUSE", 0.01)
    kube.stop()
    with reporting():
        pass
    (writer,) = [thread for thread in threading.enumerate() if thread.name == "progress"] or [None]
    assert writer is None
    kube.start()


def test_the_run_never_waits_for_the_server(kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    kube.on_request = lambda *_, **__: stuck.wait(20) and None
    monkeypatch.setattr("job.deploy.progress.LAST", 0.1)
    began = time.monotonic()
    with reporting() as bus:
        for epoch in range(100):
            bus.emit(EpochEnded("head", EpochRecord(epoch, **EPOCH), epochs=100))
            bus.emit(LayersThawed([]))
    assert time.monotonic() - began < 5
    stuck.set()


@pytest.mark.parametrize("fault", [403, DROP])
def test_failures_to_write_are_said_once_and_end_nothing(fault: int, kube: Kube, in_pod: Any) -> None:
    warnings = Heard()
    for _ in range(100):
        kube.answer("PATCH", "rayjobs", fault, {"message": "forbidden"})
    with reporting() as bus:
        bus.subscribe(Warned, warnings)
        for phase in ("head", "fine_tune", "head", "fine_tune"):
            bus.emit(EpochEnded(phase, EpochRecord(1, **EPOCH), epochs=9))
            made = len(kube.requests)
            kube.wait_for(lambda made=made: len(kube.requests) > made)
    (warning,) = warnings
    assert warning.text.startswith("The run's progress can't be written on its RayJob: ")


def test_what_could_not_be_written_is_written_later(kube: Kube, in_pod: Any) -> None:
    with reporting() as bus:
        written(kube, in_pod, "phase", "start")
        kube.answer("PATCH", "rayjobs", 403, {"message": "forbidden"})
        bus.emit(RunFound(uri="s3://bucket/thaw/runs/another/", phases=("head",)))
        kube.wait_for(lambda: not kube.answers)
        bus.emit(TrainingStarted(workers=2, resumed=None))
        written(kube, in_pod, "run", "another")


@pytest.mark.parametrize("busy", [True, False])
def test_a_rayjob_that_was_given_up_ends_its_run(
    busy: bool, kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a while, also where there is no progress to write."""
    monkeypatch.setattr("job.deploy.progress.LOOK", 0.05)
    heard = threading.Event()

    def ask(by: str) -> None:
        assert by == "KubeRay, which has given the RayJob up (DeadlineExceeded)"
        heard.set()

    with reporting(ask) as bus:
        written(kube, in_pod, "phase", "start")
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Running"}})
        assert not heard.wait(0.3)
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}})
        if busy:
            bus.emit(EpochEnded("head", EpochRecord(1, **EPOCH), epochs=10))
        assert heard.wait(10)


def test_a_run_hears_of_it(kube: Kube, in_pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line leads from the RayJob to the run."""
    monkeypatch.setattr("job.deploy.progress.LOOK", 0.05)

    def listing(*_: Any, **__: Any) -> None:
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}})
        time.sleep(20)

    monkeypatch.setattr("job.entry.find_run", listing)
    (tmp_path / "job.yaml").write_text(
        f"{{name: a, data: {{source: 'file://{tmp_path}'}}, store: 'file://{tmp_path}/store'}}"
    )
    result = CliRunner().invoke(thaw, ["run", str(tmp_path / "job.yaml")])
    assert isinstance(result.exception, Interrupted)
    assert in_pod()["thaw/exit-code"] == "143"
    assert in_pod()["thaw/error"].startswith("Stopped by KubeRay, which has given the RayJob up (DeadlineExceeded): ")


def test_on_a_schedule_the_rayjob_is_known_by_its_cluster(
    kube: Kube, in_pod: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KubeRay makes the names of both."""
    monkeypatch.setenv("THAW_RAYJOB", f"{NAME}-x7k2p")
    with reporting() as bus:
        bus.emit(TrainingStarted(workers=2, resumed=None))
    assert in_pod()["thaw/phase"] == "done"


def test_elsewhere_nothing_is_written(kube: Kube) -> None:
    with reporting() as bus:
        bus.emit(TrainingStarted(workers=2, resumed=None))
    assert kube.requests == []


def test_a_job_file_that_is_wrong_is_written_too(kube: Kube, in_pod: Any, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with suppress(SystemExit):
        assert CliRunner().invoke(thaw, ["run", str(tmp_path / "etc")]).exit_code
    assert in_pod()["thaw/exit-code"] == "2"
    assert in_pod()["thaw/error"].endswith("/etc: there is no job file (*.yaml) in this folder.")
