"""The Roles of k8s/base allow what is done with them, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from job.config import Job
from job.deploy.api import Api, connect
from job.deploy.follow import follow
from job.deploy.progress import annotated
from job.deploy.rayjob_status import cancel_rayjob, rayjob_status
from job.deploy.submit import Options, submit
from job.run.events import Bus, RunProgress
from support.kube import Kube

ACCESS = Path(__file__).parents[2] / "k8s/base/access.yaml"
OWNERS = {("configmaps", "delete")}
"""What a cluster may ask of who gives an object an owner; and for what a refused RayJob would leave behind."""
KUBECTL = {("pods", "get"), ("pods/log", "get"), ("jobs", "get")}
"""For `kubectl logs job/…` and `kubectl describe pod`, which docs/kubernetes.md has."""
Verbs = set[tuple[str, str]]


def allowed(role: str) -> Verbs:
    documents = yaml.safe_load_all(ACCESS.read_text())
    (rules,) = [d["rules"] for d in documents if d["kind"] == "Role" and d["metadata"]["name"] == role]
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Verbs:
    """What the API server was asked for."""
    used, refusals = set(), Api._refusals

    def noted(self: Api, verb: str, resource: Any) -> Any:
        used.add((resource.plural, verb))
        return refusals(self, verb, resource)

    monkeypatch.setattr(Api, "_refusals", noted)
    return used


def test_who_submits_follows_and_cancels_may_do_just_that(
    used: Verbs, kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    names = {submit(job, Options(overlay), said).name for _ in range(2)}
    (name,) = names
    api = connect(None, "thaw")
    kube.put("pods", {"metadata": {"name": "head", "labels": {"app.kubernetes.io/instance": name}}})
    rayjob_status(api, name)
    kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Running"}})

    def end(method: str, plural: str) -> None:
        """Once both are watched."""
        if {("WATCH", "rayjobs"), ("WATCH", "pods")} <= set(kube.requests):
            kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}})

    kube.on_request = end
    assert follow(api, name, said) == 0
    cancel_rayjob(api, name)
    assert used | KUBECTL | OWNERS == allowed("thaw-submit")


def test_a_run_may_write_on_rayjobs_alone(used: Verbs, kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    kube.put("rayjobs", {"metadata": {"name": "cells"}})
    monkeypatch.setenv("THAW_RAYJOB", "cells")
    monkeypatch.setenv("THAW_NAMESPACE", "thaw")
    bus = Bus()
    with annotated(bus, lambda by: None):
        bus.emit(RunProgress("head", 50.0))
    assert used == allowed("thaw-run")
