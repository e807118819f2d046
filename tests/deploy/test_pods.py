"""What keeps pods from working, as who follows their RayJob is told."""

from __future__ import annotations

from typing import Any

import pytest

from support.following import NAME, Following
from support.kube import Kube


def pod(name: str, kind: str = "worker", **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/instance": NAME, "ray.io/node-type": kind, "ray.io/group": "spot"}
    container = {"name": "ray-worker", "resources": {"limits": {"memory": "16Gi"}}}
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "thaw-data"}}]
    spec = {"containers": [container], "volumes": volumes}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def unscheduled(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


def disrupted(reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "ray-worker", "image": "registry/thaw:1", **state}]}


NO_GPU = "0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient nvidia.com/gpu. preemption: not helpful."
TAINTED = "0/3 nodes are available: 3 node(s) had untolerated taint {thaw/spot: true}."
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
KILLED = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry/thaw:1"'}}
PROBLEMS = {
    "unschedulable": (
        unscheduled(NO_GPU),
        f"a worker (group spot) waits for a node: no node has enough cpu and nvidia.com/gpu left. The scheduler says: "
        f"{NO_GPU}",
    ),
    "tainted": (
        unscheduled(TAINTED),
        f"a worker (group spot) waits for a node: no node takes it. The scheduler says: {TAINTED}",
    ),
    "claim": (unscheduled(UNBOUND), "a worker (group spot) waits for its volume: the claim thaw-data is not bound"),
    "image": (container(state=PULLING), "a: the image registry/thaw:1 can't be pulled: Back-off pulling image"),
    "memory": (container(state=KILLED), "a: the container ray-worker was killed for want of memory (its limit: 16Gi)"),
    "memory, before": (container(state={"running": {}}, lastState=KILLED), "killed for want of memory"),
    "crashes": (
        container(
            state={"waiting": {"reason": "CrashLoopBackOff"}},
            lastState={"terminated": {"reason": "Error", "exitCode": 1}},
        ),
        "a: the container ray-worker ends again and again (exit code 1): kubectl logs a -c ray-worker --previous",
    ),
    "configuration": (
        container(state={"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "x" not found'}}),
        'a: the container ray-worker can\'t be started: configmap "x" not found',
    ),
    "preempted": (disrupted("PreemptionByScheduler"), "a was evicted: it made room for a pod of a higher priority"),
    "spot": (disrupted("DeletionByTaintManager"), "a was evicted: its node was tainted (a spot node that is taken"),
    "evicted": (
        {"reason": "Evicted", "message": "The node was low on resource: memory."},
        "a was evicted: The node was low on resource: memory.",
    ),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_problem_of_a_pod_is_said_once_in_plain_words(problem: str, kube: Kube, following: Following) -> None:
    state, text = PROBLEMS[problem]
    kube.put("pods", pod("a", **state), "ADDED")
    line = following.hears(text)
    kube.edit("pods", "a", {"metadata": {"annotations": {"changed": "yes"}}})
    kube.put("pods", pod("b", **disrupted("EvictionByEvictionAPI")), "ADDED")
    following.hears("b was evicted: its node is drained")
    assert following.said.count(line) == 1


def test_pods_of_one_group_wait_for_the_same_and_those_of_others_are_not_heard(
    kube: Kube, following: Following
) -> None:
    for name in ("a", "b", "c"):
        kube.put("pods", pod(name, **unscheduled(NO_GPU)), "ADDED")
    stranger = pod("stranger", **unscheduled(UNBOUND))
    kube.put("pods", {**stranger, "metadata": {"name": "stranger"}}, "ADDED")
    kube.put("pods", pod("head", "head", **unscheduled(NO_GPU)), "ADDED")
    following.hears("the head waits for a node")
    assert len([line for line in following.said if "a worker" in line]) == 1
    assert not [line for line in following.said if "stranger" in line]
