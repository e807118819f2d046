"""`thaw status` and `thaw cancel` of a RayJob."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.deploy.api import Api
from job.deploy.rayjob_status import cancel_rayjob, describe_rayjob, rayjob_status, watch_status
from job.deploy.refusals import Unreachable
from job.errors import JobError
from support.kube import Kube

NAME = "cells-0123456789ab"


@pytest.fixture
def rayjob(kube: Kube) -> Kube:
    figures = {"phase": "head", "percent": "45", "epoch": "3/10", "run": NAME, "store": "s3://bucket/thaw"}
    annotations = {f"thaw/{name}": text for name, text in figures.items()}
    state = {"jobDeploymentStatus": "Running", "rayClusterName": f"{NAME}-xyz", "failed": 1}
    kube.put("rayjobs", {"metadata": {"name": NAME, "annotations": annotations}, "status": state})
    labels = {"app.kubernetes.io/instance": NAME, "ray.io/node-type": "worker", "ray.io/group": "spot"}
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waiting["message"] = "0/1 nodes are available: 1 Insufficient cpu."
    for name in ("a", "b"):
        pod = {"metadata": {"name": name, "labels": labels}, "status": {"phase": "Pending", "conditions": [waiting]}}
        kube.put("pods", pod)
    for name, cluster in (("1", f"{NAME}-xyz"), ("2", f"{NAME}-xyz"), ("3", "another")):
        event = {"involvedObject": {"name": cluster}, "type": "Warning", "reason": "FailedToCreateWorkerPod"}
        kube.put("events", {"metadata": {"name": name}, **event, "message": "exceeded quota"})
    return kube


def test_status_tells_progress_pods_and_problems(rayjob: Kube, api: Api) -> None:
    found = rayjob_status(api, NAME)
    assert found.state == "Running"
    assert found.run == f"s3://bucket/thaw/runs/{NAME}/"
    assert found.progress["percent"] == "45"
    assert found.pods == {"a": "Pending", "b": "Pending"}
    assert found.problems == [
        "a worker (group spot) waits for a node: no node has enough cpu left. The scheduler says: "
        "0/1 nodes are available: 1 Insufficient cpu.",
        "FailedToCreateWorkerPod: exceeded quota",
    ]


def test_status_prints_lines_or_json(rayjob: Kube) -> None:
    done = CliRunner().invoke(thaw, ["status", NAME])
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:5] == [
        f"rayjob      {NAME} (namespace thaw)",
        "state       Running",
        "failed      1 attempt",
        f"run         s3://bucket/thaw/runs/{NAME}/",
        "progress    45 %  head  epoch 3/10",
    ]
    done = CliRunner().invoke(thaw, ["status", NAME, "--json", "--context", "here", "-n", "thaw"])
    assert json.loads(done.stdout)["exit_code"] is None


def test_status_of_one_that_has_failed_has_its_code_and_reason(rayjob: Kube, api: Api) -> None:
    ended = {"thaw/exit-code": "5", "thaw/error": "The head has not converged", "thaw/cluster": f"{NAME}-xyz"}
    rayjob.edit("rayjobs", NAME, {"metadata": {"annotations": ended}, "status": {"jobDeploymentStatus": "Failed"}})
    found = rayjob_status(api, NAME)
    assert (found.exit_code, found.reason) == (5, "The head has not converged")


def test_cancel_deletes_it(rayjob: Kube, api: Api) -> None:
    done = CliRunner().invoke(thaw, ["cancel", NAME])
    assert done.stdout.startswith(f"RayJob {NAME} is being deleted. Its pods keep a checkpoint")
    assert ("rayjobs", NAME) not in rayjob.objects
    with pytest.raises(
        JobError, match=f"There is no RayJob {NAME} in namespace thaw: `kubectl -n thaw get rayjobs` lists"
    ):
        cancel_rayjob(api, NAME)


def test_an_unknown_rayjob_is_named(kube: Kube, api: Api) -> None:
    with pytest.raises(JobError, match="There is no RayJob nobody in namespace thaw"):
        rayjob_status(api, "nobody")


def test_a_rayjob_that_is_new_has_little_to_tell(kube: Kube, api: Api) -> None:
    kube.put("rayjobs", {"metadata": {"name": NAME}})
    found = rayjob_status(api, NAME)
    assert (found.state, found.run, found.reason, found.problems) == ("New", None, None, [])
    assert describe_rayjob(found)[1] == "state       New: KubeRay has not seen it yet"


def test_a_healthy_rayjob_has_no_reason_and_what_kuberay_could_not_delete_is_no_problem(rayjob: Kube, api: Api) -> None:
    """As KubeRay tells them: it copies the message of Ray's job, and warns of what was gone already."""
    told = {"message": "Job is currently running.", "reason": None}
    rayjob.edit("rayjobs", NAME, {"status": told})
    event = {"involvedObject": {"name": f"{NAME}-xyz"}, "type": "Warning", "reason": "FailedToDeletePod"}
    rayjob.put("events", {"metadata": {"name": "4"}, **event, "message": "pods not found"})
    found = rayjob_status(api, NAME)
    assert found.reason is None
    assert [problem for problem in found.problems if "not found" in problem] == []
    rayjob.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}})
    assert (rayjob_status(api, NAME).exit_code, rayjob_status(api, NAME).reason) == (0, None)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"status": {"jobDeploymentStatus": ""}}, "Retrying: a new cluster is made, which goes on with the run"),
        (
            {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
            "Deleting: it is being deleted: its pods keep a checkpoint before they end",
        ),
        (
            {
                "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "thaw"}},
                "status": {"jobDeploymentStatus": "Suspended"},
            },
            "Suspended: it waits in a queue (`kubectl -n thaw get workloads` says what for)",
        ),
        ({"status": {"jobDeploymentStatus": "Suspended"}}, "Suspended: it is suspended (spec.suspend), until somebody"),
        ({"status": {"jobDeploymentStatus": "Initializing"}}, "Initializing: its cluster is made"),
    ],
)
def test_what_a_rayjob_is_at_is_said(change: dict[str, Any], line: str, rayjob: Kube, api: Api) -> None:
    rayjob.edit("rayjobs", NAME, {"metadata": {"namespace": "thaw"}})
    rayjob.edit("rayjobs", NAME, change)
    assert describe_rayjob(rayjob_status(api, NAME))[1].startswith(f"state       {line}")


def test_pods_of_a_rayjob_on_a_schedule_are_found_by_their_cluster(rayjob: Kube, api: Api) -> None:
    rayjob.put("rayjobs", {"metadata": {"name": "thaw-abcde"}, "status": {"rayClusterName": "thaw-abcde-x7k2p"}})
    labels = {"app.kubernetes.io/instance": "thaw", "ray.io/cluster": "thaw-abcde-x7k2p"}
    rayjob.put("pods", {"metadata": {"name": "head", "labels": labels}, "status": {"phase": "Running"}})
    assert rayjob_status(api, "thaw-abcde").pods == {"head": "Running"}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setattr("job.deploy.rayjob_status.INTERVAL", 0.01)
    return []


def watched(shown: list[list[str]]) -> str:
    return watch_status(NAME, shown.append, context=None, namespace="thaw").state


def test_a_status_is_watched_through_a_restart_of_the_server(rayjob: Kube, shown: list[list[str]]) -> None:
    def restart(method: str, plural: str) -> None:
        if len(rayjob.requests) > 20:
            rayjob.on_request = lambda *_, **__: None
            for status in (503, 401, 403):
                for _ in range(7):
                    rayjob.answer("GET", "rayjobs", status, {"message": "forbidden"})
            rayjob.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}})

    rayjob.on_request = restart
    assert watched(shown) == "Complete"
    assert any(line.endswith("Looking again.") for lines in shown for line in lines)
    assert shown[0][0] == f"rayjob      {NAME} (namespace thaw)"


def test_a_status_is_watched_until_the_rayjob_is_gone(rayjob: Kube, shown: list[list[str]]) -> None:
    def delete(method: str, plural: str) -> None:
        if len(rayjob.requests) == 20:
            rayjob.edit("rayjobs", NAME, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
        if len(rayjob.requests) == 40:
            rayjob.remove("rayjobs", NAME)

    rayjob.on_request = delete
    assert watched(shown) == "Deleted"
    states = list(dict.fromkeys(lines[1] for lines in shown))
    assert [state.partition(":")[0].split()[-1] for state in states] == ["Running", "Deleting", "Deleted"]


def test_a_server_that_was_never_there_is_not_waited_for(kube: Kube, shown: list[list[str]]) -> None:
    kube.stop()
    with pytest.raises(Unreachable, match="could not get rayjobs"):
        watched(shown)
