"""A cluster on loopback, and a job whose data and store are folders of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.config import Job
from job.config.jobfile import parse_job
from job.deploy.api import Api, connect
from job.model.resolved import record_key, weights_request
from job.run.events import Event
from job.storage import open_store
from support.following import NAME, Following
from support.images import folder_of
from support.kube import Kube, kubeconfig, kubernetes
from support.overlays import built_overlay
from support.tools import need


class Said(list[str]):
    """What a person was told."""

    def __call__(self, event: Event) -> None:
        self.append(str(getattr(event, "text", event.kind)))


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def kubectl() -> None:
    """For tests of what kubectl builds: skipped where there is none, but where every tool is required."""
    need("kubectl")


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kube]:
    """The cluster of KUBECONFIG."""
    monkeypatch.setattr("job.deploy.api.PAUSE", 0.001)
    monkeypatch.setattr("job.deploy.follow.PAUSE", 0.001)
    with kubernetes() as (kube, url):
        (tmp_path / "kubeconfig").write_text(kubeconfig(url))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield kube


@pytest.fixture
def api(kube: Kube) -> Api:
    return connect(None, "thaw")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Its weights are known to the store, so that nothing has to be downloaded for a run's id."""
    source = open_store(f"file://{tmp_path}/images/")
    for key, content in folder_of(40).items():
        source.write(key, content)
    text = f"{{name: cells, data: {{source: 'file://{tmp_path}/images/'}}, store: 'file://{tmp_path}/store/'}}"
    job = parse_job(text, ["scaling.workers={min: 1, max: 3}"])
    record = json.dumps({"weights_sha256": "0" * 64}).encode()
    open_store(job.store).write(record_key(weights_request(job.model, job.train.seed)), record)
    return job


@pytest.fixture
def overlay(tmp_path: Path) -> str:
    return built_overlay(tmp_path)


@pytest.fixture
def following(kube: Kube, api: Api, said: Said) -> Iterator[Following]:
    kube.put("rayjobs", {"metadata": {"name": NAME}})
    following = Following(api, said)
    kube.wait_for(lambda: len(kube.watches) == 2)
    yield following
    if following._thread.is_alive():
        kube.edit("rayjobs", NAME, {"status": {"jobDeploymentStatus": "Complete"}})
        following.ends()
