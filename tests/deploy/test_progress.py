"""What a run writes on its RayJob, and that it never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.deploy.figures import Figures
from job.deploy.progress import reported
from job.errors import DataError, Interrupted
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


def written(kube: Kube, annotations: Callable[[], dict[str, str]], name: str, text: str | None) -> None:
    kube.wait_for(lambda: annotations().get(f"thaw/{name}") == text)


def test_phases_are_written_at_once_and_the_end_with_its_code(kube: Kube, in_pod: Any, said: Any) -> None:
    with reported(said, asked_by_nobody) as say:
        written(kube, in_pod, "phase", "start")
        assert in_pod() == {"thaw/phase": "start", "thaw/run": NAME}  # what an earlier attempt left is gone
        say("run", uri=f"s3://bucket/thaw/runs/{NAME}-2/", phases=["head", "fine_tune"])
        written(kube, in_pod, "run", f"{NAME}-2")
        say("epoch", phase="head", epoch=5, epochs=10, **EPOCH)
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
    assert said == ["run", "epoch"]


def test_within_a_phase_it_writes_once_in_an_interval(
    kube: Kube, in_pod: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reported(said, asked_by_nobody) as say:
        say("epoch", phase="head", epoch=1, epochs=100, **EPOCH)
        written(kube, in_pod, "phase", "head")
        before = len(kube.requests)
        for epoch in range(2, 100):
            say("epoch", phase="head", epoch=epoch, epochs=100, **EPOCH)
        assert len(kube.requests) == before
    assert len(kube.requests) == before + 1
    assert in_pod()["thaw/epoch"] == "99/100"
    monkeypatch.setattr("job.deploy.progress.INTERVAL", 0.05)
    with reported(said, asked_by_nobody) as say:
        for epoch in (1, 2):
            say("epoch", phase="head", epoch=epoch, epochs=100, **EPOCH)
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
def test_what_ends_a_run_is_written(error: Exception, code: str, text: str, kube: Kube, in_pod: Any, said: Any) -> None:
    with pytest.raises(type(error)), reported(said, asked_by_nobody):
        raise error
    left = {name: in_pod()[f"thaw/{name}"] for name in ("exit-code", "error", "cluster")}
    assert left == {"exit-code": code, "error": text, "cluster": f"{NAME}-x7k2p"}


def test_the_run_never_waits_for_the_server(
    kube: Kube, in_pod: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    kube.on_request = lambda *_: stuck.wait(20) and None
    monkeypatch.setattr("job.deploy.progress.LAST", 0.1)
    began = time.monotonic()
    with reported(said, asked_by_nobody) as say:
        for epoch in range(100):
            say("epoch", phase="head", epoch=epoch, epochs=100, **EPOCH)
            say("thaw", rows=[])
    assert time.monotonic() - began < 5
    stuck.set()


@pytest.mark.parametrize("fault", [403, DROP])
def test_failures_to_write_are_said_once_and_end_nothing(fault: int, kube: Kube, in_pod: Any, said: Any) -> None:
    for _ in range(100):
        kube.answer("PATCH", "rayjobs", fault, {"message": "forbidden"})
    with reported(said, asked_by_nobody) as say:
        for phase in ("head", "fine_tune", "head", "fine_tune"):
            say("epoch", phase=phase, epoch=1, epochs=9, **EPOCH)
            made = len(kube.requests)
            kube.wait_for(lambda made=made: len(kube.requests) > made)
    told = [line for line in said if "progress" in line]
    assert len(told) == 1
    assert told[0].startswith("The run's progress can't be written on its RayJob: ")


def test_what_could_not_be_written_is_written_later(kube: Kube, in_pod: Any, said: Any) -> None:
    with reported(said, asked_by_nobody) as say:
        written(kube, in_pod, "phase", "start")
        kube.answer("PATCH", "rayjobs", 403, {"message": "forbidden"})
        say("run", uri="s3://bucket/thaw/runs/another/", phases=["head"])
        kube.wait_for(lambda: not kube.answers)
        say("start", workers=2, resumed=None)
        written(kube, in_pod, "run", "another")


@pytest.mark.parametrize("busy", [True, False])
def test_a_rayjob_that_was_given_up_ends_its_run(
    busy: bool, kube: Kube, in_pod: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a while, also where there is no progress to write."""
    monkeypatch.setattr("job.deploy.progress.LOOK", 0.05)
    heard = threading.Event()

    def ask(by: str) -> None:
        assert by == "KubeRay, which has given the RayJob up (DeadlineExceeded)"
        heard.set()

    with reported(said, ask) as say:
        written(kube, in_pod, "phase", "start")
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Running"}})
        assert not heard.wait(0.3)
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}})
        if busy:
            say("epoch", phase="head", epoch=1, epochs=10, **EPOCH)
        assert heard.wait(10)


def test_a_run_hears_of_it(kube: Kube, in_pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line leads from the RayJob to the run."""
    monkeypatch.setattr("job.deploy.progress.LOOK", 0.05)

    def listing(*_: Any) -> None:
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


def test_elsewhere_nothing_is_written(kube: Kube, said: Any) -> None:
    with reported(said, asked_by_nobody) as say:
        assert say is said
    assert kube.requests == []


def test_a_job_file_that_is_wrong_is_written_too(kube: Kube, in_pod: Any, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with suppress(SystemExit):
        assert CliRunner().invoke(thaw, ["run", str(tmp_path / "etc")]).exit_code
    assert in_pod()["thaw/exit-code"] == "2"
    assert in_pod()["thaw/error"].endswith("/etc: there is no job file (*.yaml) in this folder.")


def percents(*events: tuple[str, dict[str, Any]]) -> list[int]:
    figures = Figures()
    changes = [figures.after(kind, event) for kind, event in events]
    return [int(str(change["thaw/percent"])) for change in changes if "thaw/percent" in change]


def run(*phases: str) -> tuple[str, dict[str, Any]]:
    return "run", {"uri": "s3://bucket/thaw/runs/a/", "phases": list(phases)}


def extract(done: int) -> tuple[str, dict[str, Any]]:
    return "extract", {"done": done, "of": 100, "rate": 10.0}


def epoch(phase: str, number: int) -> tuple[str, dict[str, Any]]:
    return "epoch", {"phase": phase, "epoch": number, "epochs": 10, **EPOCH}


def test_percent_is_of_the_whole_run() -> None:
    start = ("start", {"workers": 2, "resumed": None})
    converged = ("head", {"converged": True, "epoch": 5, "best": 3})
    measured = ("epoch", {"phase": "fine_tune", "epoch": 0, "validation_loss": 1.0, "validation_accuracy": 0.5})
    assert percents(
        ("index", {"done": 1, "of": 2}),
        ("snapshot", {"id": "a"}),
        run("head", "fine_tune"),
        extract(0),
        extract(50),
        start,
        epoch("head", 5),
        converged,
        ("thaw", {"rows": []}),
        measured,
        epoch("fine_tune", 5),
        ("trained", {"kept": "head", "fine_tuned": True}),
    ) == [1, 1, 2, 2, 21, 40, 50, 60, 60, 60, 78, 96]
    assert percents(run("head"), start, epoch("head", 5), converged) == [2, 40, 68, 96]


def test_percent_never_falls() -> None:
    again = [epoch("fine_tune", 5), extract(0), extract(100), ("start", {"resumed": ["fine_tune", 4, 0]})]
    assert percents(run("head", "fine_tune"), *again, epoch("fine_tune", 6)) == [2, 78, 78, 78, 78, 82]


def test_a_resumed_run_begins_where_it_goes_on() -> None:
    assert percents(run("head", "fine_tune"), ("start", {"workers": 1, "resumed": ["fine_tune", 4, 7]})) == [2, 60]


def test_what_says_nothing_of_progress_changes_nothing() -> None:
    figures = Figures()
    for kind in ("stage", "note", "warning", "rejects", "ready"):
        assert figures.after(kind, {"text": "x"}) == {}


def test_extracting_tells_its_rate_and_what_is_left() -> None:
    figures = Figures().after(*extract(40))
    assert (figures["thaw/rate"], figures["thaw/left"]) == ("10 examples/s", "0:00:06")
    assert Figures().after("extract", {"done": 1, "of": 2, "rate": None})["thaw/rate"] is None
