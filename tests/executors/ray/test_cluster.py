"""Ray, as it is started and ended around a run."""

from __future__ import annotations

import pytest

from job.errors import ClusterError, Interrupted
from job.executors.ray.cluster import ray_cluster
from job.jobfile import parse_job

JOB = "{name: any, data: {source: 'file:///'}, store: 'file:///'}"


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
        with ray_cluster(parse_job(JOB), say=lambda kind, text: heard.append(text)):
            pass
    assert heard == told
