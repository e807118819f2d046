"""Ray, as it is started and ended around a run."""

from __future__ import annotations

from typing import Any

import pytest

from job.config.jobfile import parse_job
from job.errors import ClusterError, Interrupted
from job.executors.ray.cluster import STARTS, extract_processes, placed_there, ray_cluster, room

JOB = "{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 2}}"
OPEN = "{name: any, data: {source: 'file:///'}, store: 'file:///'}"
"""It leaves the number of workers open."""


def test_what_ray_tells_of_as_it_ends_is_not_in_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, answer in (("init", None), ("is_initialized", False), ("cluster_resources", {})):
        monkeypatch.setattr(f"ray.{name}", lambda answer=answer, **_: answer)
    monkeypatch.setattr("ray.shutdown", lambda: print("(raylet) A worker died."))
    with ray_cluster(parse_job(JOB)):
        print("(raylet) A node is lost.")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("(raylet) A node is lost.\n(raylet) A worker died.\n")


@pytest.mark.parametrize(
    ("raised", "error"),
    [(Exception("The current node timed out."), ClusterError), (Interrupted("SIGTERM"), Interrupted)],
)
def test_a_ray_that_does_not_start_is_the_clusters_error_and_an_end_that_was_asked_for_is_not(
    raised: Exception, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise raised

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)  # that of the other tests goes on
    with pytest.raises(error, match=str(raised)), ray_cluster(parse_job(JOB)):
        pass


@pytest.mark.parametrize(("address", "told"), [("", ["starting Ray"]), ("auto", ["connecting to Ray at auto"])])
def test_waiting_for_ray_is_a_stage_but_where_it_is_there_already(
    address: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setenv("RAY_ADDRESS", address)
    for name, answer in (("init", None), ("shutdown", None), ("cluster_resources", {})):
        monkeypatch.setattr(f"ray.{name}", lambda answer=answer, **_: answer)
    for is_there in (False, True):
        monkeypatch.setattr("ray.is_initialized", lambda is_there=is_there: is_there)
        with ray_cluster(parse_job(JOB), emit=lambda event: heard.append(event.text)):
            pass
    assert heard == told


class Starts:
    """Ray, which does not start the first few times; and how often it was ended again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
        self.fails, self.tried, self.ended = fails, 0, 0
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.cluster_resources", dict)
        monkeypatch.setattr("ray.init", self.init)
        monkeypatch.setattr("ray.shutdown", self.shutdown)

    def init(self, **settings: Any) -> None:
        assert self.ended == self.tried, "what is left of the try before is ended first"
        self.tried += 1
        if self.tried <= self.fails:
            raise Exception("The current node timed out during startup.\nAnd more advice.")

    def shutdown(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("fails", range(STARTS))
def test_a_start_that_fails_is_tried_again_with_a_warning_each(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    starts, told = Starts(monkeypatch, fails), list[tuple[str, str]]()
    with ray_cluster(parse_job(JOB), emit=lambda event: told.append((event.kind, event.text))):
        assert starts.tried == fails + 1
        assert starts.ended == fails
    again = "Ray did not start at this machine (Exception: The current node timed out during startup.): trying again"
    assert told == [("stage", "starting Ray"), *[("warning", again)] * fails]
    assert starts.ended == fails + 1


def test_after_three_tries_it_is_the_clusters_error(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, told = Starts(monkeypatch, STARTS), list[str]()
    with pytest.raises(ClusterError) as caught, ray_cluster(parse_job(JOB), emit=lambda event: told.append(event.kind)):
        pass
    assert str(caught.value) == (
        "Ray can't be reached or started at this machine, in 3 tries: Exception: The current node timed out during "
        "startup. (--debug shows its logs)."
    )
    assert caught.value.exit_code == 6
    assert (starts.tried, told) == (3, ["stage", "warning", "warning"])


def test_an_end_that_was_asked_for_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def init(**_: object) -> None:
        tried.append(1)
        raise Interrupted("SIGTERM")

    Starts(monkeypatch, 0)
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(Interrupted), ray_cluster(parse_job(JOB)):
        pass
    assert tried == [1]


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cluster that is connected to: its `nodes` (cores of each; None: it is gone) and `resources`."""
    found: dict[str, Any] = {"nodes": [], "resources": {}}

    def nodes() -> list[dict[str, Any]]:
        return [{"Alive": count is not None, "Resources": {"CPU": float(count or 9)}} for count in found["nodes"]]

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", nodes)
    monkeypatch.setattr("ray.cluster_resources", lambda: found["resources"])
    return found


def nothing(kind: str, **event: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("nodes", "workers", "cores"), [([8, 4, None, 0.5], 2, 4), ([16], 1, 16), ([], 1, 1), ([0.5], 1, 1)]
)
def test_on_a_cluster_each_node_that_computes_has_a_worker_with_the_cores_of_the_smallest(
    nodes: list[float | None], workers: int, cores: int, there: dict[str, Any]
) -> None:
    there["nodes"] = nodes
    scaling = placed_there(parse_job(OPEN), False, nothing).scaling
    assert (scaling.executor, scaling.workers, scaling.cpus_per_worker) == ("ray", workers, cores)


@pytest.mark.parametrize(("gpus", "workers"), [(4.0, 4), (None, 1)])
def test_on_a_cluster_with_gpus_each_has_a_worker(gpus: float | None, workers: int, there: dict[str, Any]) -> None:
    there |= {"nodes": [64], "resources": {"CPU": 64.0} | ({"GPU": gpus} if gpus else {})}
    scaling = placed_there(parse_job(OPEN, ["scaling.gpu=true"]), False, nothing).scaling
    assert (scaling.executor, scaling.workers, scaling.cpus_per_worker) == ("ray", workers, None)


def test_runs_are_side_by_side_where_there_is_room_for_their_workers(
    there: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    there["resources"] = {"CPU": 13.0, "GPU": 8.0}
    job = parse_job(JOB, ["scaling.cpus_per_worker=3"])
    assert room(job) == 2
    assert room(parse_job(JOB, ["scaling.gpu=true"])) == 4
    assert room(parse_job(JOB, ["scaling.cpus_per_worker=99"])) == 1
    assert extract_processes(job) == (None, 2)
    monkeypatch.delenv("RAY_ADDRESS")
    assert room(job) == 1
    assert extract_processes(job)[1] == 1
