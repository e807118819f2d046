"""`thaw status` and `thaw cancel` of a RayJob."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.deploy.api import Api
from job.deploy.rayjob_status import cancel_rayjob, rayjob_status
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
        "failed      1 attempts",
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
    with pytest.raises(JobError, match=f"There is no RayJob {NAME} in namespace thaw: `kubectl get rayjob -A`"):
        cancel_rayjob(api, NAME)


def test_an_unknown_rayjob_is_named(kube: Kube, api: Api) -> None:
    with pytest.raises(JobError, match="There is no RayJob nobody in namespace thaw"):
        rayjob_status(api, "nobody")


def test_a_rayjob_that_is_new_has_little_to_tell(kube: Kube, api: Api) -> None:
    kube.put("rayjobs", {"metadata": {"name": NAME}})
    found = rayjob_status(api, NAME)
    assert (found.state, found.run, found.reason, found.problems) == ("New", None, None, [])
