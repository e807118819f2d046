"""What is filled into the overlays that ship."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from job.config import Job, WorkerRange
from job.config.jobfile import parse_job
from job.deploy.fitting import cores
from job.deploy.manifest import as_yaml, fill, fitting_rayjob, kube_name, pod_templates
from job.deploy.naming import Naming
from job.deploy.overlay import SHIPPED, read_overlay
from job.errors import ClusterError, JobError
from support.kube import Kube
from support.kustomize import build_with

TEXT = """
name: cells
data: {source: s3://bucket/cells/}
store: s3://bucket/thaw/
"""
RUN = "cells-0123456789ab"
CLOUD = ["scaling={gpu: true, workers: {min: 1, max: 7}}", "train.batch_size=8"]
ROOT = Path(__file__).parents[2]


def filled(overlay: str, job: Job, **options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return fill(job, Naming(RUN, RUN), fitting_rayjob(job, read_overlay(overlay), overlay), **options)


def cloud_job() -> Job:
    return parse_job(TEXT, CLOUD)


@pytest.mark.parametrize("overlay", SHIPPED)
def test_only_names_labels_job_file_workers_and_image_differ_from_the_overlay(overlay: str, kubectl: None) -> None:
    job = parse_job(TEXT) if overlay == "local" else cloud_job()
    (shipped,) = [o for o in read_overlay(overlay) if o["kind"] == "RayJob"]
    maps = [o["metadata"]["name"] for o in read_overlay(overlay) if o["kind"] == "ConfigMap"]
    (placeholder,) = [name for name in maps if name.startswith("thaw-job-")]
    configmap, rayjob = filled(overlay, job, image="registry/thaw:2")
    assert configmap["metadata"]["name"] == rayjob["metadata"]["name"] == RUN
    assert configmap["metadata"]["namespace"] == rayjob["metadata"]["namespace"] == "thaw"
    assert configmap["metadata"]["labels"]["app.kubernetes.io/instance"] == RUN
    assert rayjob["metadata"]["annotations"] == {"thaw/run": RUN, "thaw/store": "s3://bucket/thaw/"}
    labels = [template["metadata"]["labels"].pop("app.kubernetes.io/instance") for template in pod_templates(rayjob)]
    assert labels == [RUN] * (3 if overlay == "local" else 4)
    text = as_yaml([rayjob]).replace(f"name: {RUN}\n", f"name: {placeholder}\n").replace("registry/thaw:2", "IMAGE")
    back = yaml.safe_load(text)
    images = re.sub(r"image: .*", "image: IMAGE", as_yaml([shipped]))
    wanted = yaml.safe_load(images)
    for template in pod_templates(wanted):
        del template["metadata"]["labels"]["app.kubernetes.io/instance"]
    if job.scaling.workers != "auto":
        for group in wanted["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
            group["maxReplicas"] = job.scaling.max_workers
    assert back["spec"] == wanted["spec"]
    own = {"app.kubernetes.io/instance": RUN, "thaw/job": job.name}
    assert rayjob["metadata"]["labels"] == {**shipped["metadata"]["labels"], **own}


def test_every_pod_is_one_that_kubernetes_takes(kubectl: None) -> None:
    from kubernetes_validate import validate

    configmap, rayjob = filled("aws", cloud_job())
    validate(configmap, "1.33", strict=True)
    for template in pod_templates(rayjob):
        pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "pod", **template["metadata"]}}
        validate(pod, "1.33", strict=True)


def test_the_job_file_is_what_was_given_with_its_overrides(kubectl: None) -> None:
    job = cloud_job()
    configmap, _ = filled("aws", job)
    assert yaml.safe_load(configmap["data"]["job.yaml"]) == {
        "name": "cells",
        "data": {"source": "s3://bucket/cells/"},
        "store": "s3://bucket/thaw/",
        "scaling": {"gpu": True, "workers": {"min": 1, "max": 7}},
        "train": {"batch_size": 8},
    }
    again = parse_job(configmap["data"]["job.yaml"])
    assert again == job
    assert again.meaning() == job.meaning()


@pytest.mark.parametrize("file", sorted(ROOT.glob("examples/*.yaml")), ids=lambda file: file.name)
def test_every_example_comes_back_from_its_configmap(file: Path, overlay: str) -> None:
    job = parse_job(file.read_text(), ["scaling.gpu=false", "scaling.cpus_per_worker=null"])
    configmap, _ = filled(overlay, job)
    assert parse_job(configmap["data"]["job.yaml"]) == job


def test_without_an_autoscaler_the_first_group_has_all_workers_from_the_start(kubectl: None, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (tmp_path / "built.yaml").write_text(build_with(overlay, "overlays/aws", ["kueue"]))
    for source in (str(overlay), str(tmp_path / "built.yaml")):
        _, rayjob = filled(source, cloud_job())
        first, spot = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        assert [first[name] for name in ("minReplicas", "replicas", "maxReplicas")] == [7, 7, 7]
        assert [spot[name] for name in ("minReplicas", "replicas", "maxReplicas")] == [0, 0, 7]
        assert rayjob["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "thaw"


def with_groups(overlay: str, autoscales: bool, *groups: dict[str, int]) -> str:
    """The overlay with a worker group for each of these numbers of pods."""
    rayjob = yaml.safe_load(Path(overlay).read_text())
    cluster = rayjob["spec"]["rayClusterSpec"]
    (made,) = cluster["workerGroupSpecs"]
    del made["maxReplicas"]
    cluster["enableInTreeAutoscaling"] = autoscales
    cluster["workerGroupSpecs"] = [{**made, "groupName": f"g{at}", **numbers} for at, numbers in enumerate(groups)]
    Path(overlay).write_text(yaml.safe_dump(rayjob))
    return overlay


@pytest.mark.parametrize(
    ("autoscales", "groups", "workers", "pods"),
    [
        (True, [{"maxReplicas": 5}], {"min": 1, "max": 5}, [(0, 0, 5)]),
        (True, [{"minReplicas": 1, "replicas": 2, "maxReplicas": 5}], {"min": 1, "max": 5}, [(1, 2, 5)]),
        (True, [{"maxReplicas": 5}, {"maxReplicas": 3}], {"min": 1, "max": 5}, [(0, 0, 5), (0, 0, 5)]),
        (True, [{"replicas": 2}], {"min": 1, "max": 2}, [(0, 2, 2)]),
        (True, [{}], {"min": 1, "max": 1}, [(0, 0, 1)]),
        (False, [{"replicas": 2, "maxReplicas": 5}], 2, [(2, 2, 2)]),
        (False, [{"maxReplicas": 5}], 1, [(1, 1, 1)]),
        (False, [{"replicas": 2}, {"replicas": 1}], 3, [(3, 3, 3), (0, 0, 3)]),
        (False, [{"replicas": 0}], 1, [(1, 1, 1)]),
    ],
)
def test_a_job_that_leaves_its_workers_open_has_as_many_as_the_overlay_has_pods(
    autoscales: bool,
    groups: list[dict[str, int]],
    workers: int | dict[str, int],
    pods: list[tuple[int, ...]],
    overlay: str,
) -> None:
    configmap, rayjob = filled(with_groups(overlay, autoscales, *groups), parse_job(TEXT))
    job = yaml.safe_load(configmap["data"]["job.yaml"])
    assert job["scaling"] == {"executor": "ray", "workers": workers}
    made = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert [tuple(group[name] for name in ("minReplicas", "replicas", "maxReplicas")) for group in made] == pods
    assert parse_job(configmap["data"]["job.yaml"]).meaning() == parse_job(TEXT).meaning()


def test_shipped_overlays_scale_with_a_job_that_leaves_its_workers_open(kubectl: None, tmp_path: Path) -> None:
    configmap, _ = filled("local", parse_job(TEXT))
    assert parse_job(configmap["data"]["job.yaml"]).scaling.workers == WorkerRange(min=1, max=4)
    (tmp_path / "built.yaml").write_text(build_with(tmp_path, "overlays/aws", ["kueue"]))
    configmap, _ = filled(str(tmp_path / "built.yaml"), parse_job(TEXT, ["scaling.gpu=true"]))
    assert parse_job(configmap["data"]["job.yaml"]).scaling.workers == 4


def test_the_namespace_may_be_another_one(overlay: str) -> None:
    configmap, rayjob = filled(overlay, parse_job(TEXT), namespace="lab")
    assert configmap["metadata"]["namespace"] == rayjob["metadata"]["namespace"] == "lab"


def test_the_overlay_that_was_read_is_left_as_it_is(overlay: str) -> None:
    (shipped,) = read_overlay(overlay)
    before = copy.deepcopy(shipped)
    fill(parse_job(TEXT), Naming(RUN), shipped)
    assert shipped == before


@pytest.mark.parametrize(
    ("setting", "overlay", "message"),
    [
        ("scaling.gpu=true", "local", r"scaling.gpu: true, but no worker of --overlay local has a GPU"),
        ("scaling.gpu=false", "aws", r"scaling.gpu: false, but .* have GPUs \(group on-demand, spot\).* idle"),
        ("scaling.executor=local", "local", r"scaling.executor: local: a RayJob runs on Ray: write auto or ray, or"),
        ("scaling.cpus_per_worker=5", "local", r"cpus_per_worker: 5 is more than .*group on-demand requests 4"),
    ],
)
def test_a_job_that_does_not_fit_the_overlay_is_refused(
    setting: str, overlay: str, message: str, kubectl: None
) -> None:
    with pytest.raises(JobError, match=message):
        filled(overlay, parse_job(TEXT, [setting]))


@pytest.mark.parametrize("setting", ["store=file:///data/thaw/", "data.source=file:///data/images/"])
def test_a_folder_needs_a_volume_in_every_pod(setting: str, kubectl: None) -> None:
    with pytest.raises(JobError, match=rf"{setting.partition('=')[0]}: file:///data/.*PersistentVolumeClaim"):
        filled("gcp", parse_job(TEXT, [*CLOUD, setting]))
    assert filled("local", parse_job(TEXT, [setting]))


def test_quantities_are_read_as_kubernetes_writes_them() -> None:
    assert [cores(text) for text in ("4", "500m", 2, "1.5", "1k", "1e1")] == [4, 0.5, 2, 1.5, 1000, 10]
    with pytest.raises(JobError, match="'four' is no Kubernetes quantity"):
        cores("four")


def change(overlay: str, old: str, new: str) -> str:
    path = Path(overlay)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return overlay


def test_an_overlay_has_one_rayjob_with_containers_and_a_place_for_the_job_file(overlay: str) -> None:
    text, job = Path(overlay).read_text(), parse_job(TEXT)
    for twice in (f"{text}\n---\n{text}", "kind: ConfigMap\nmetadata: {name: a}"):
        Path(overlay).write_text(twice)
        with pytest.raises(JobError, match=r"exactly one RayJob is needed, got [02]"):
            filled(overlay, job)
    Path(overlay).write_text(text.replace("name: job\n", "name: config\n"))
    with pytest.raises(JobError, match="has no volume `job`"):
        filled(overlay, job)
    Path(overlay).write_text(text.replace("containers:", "container:"))
    with pytest.raises(JobError, match="a pod template of its RayJob has no containers"):
        filled(overlay, job)


@pytest.mark.parametrize(
    ("content", "message"), [("a: [", "not valid YAML"), ("- 1", "a Kubernetes object has kind and metadata, got")]
)
def test_a_file_that_is_no_manifest_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "built.yaml").write_text(content)
    with pytest.raises(JobError, match=message):
        read_overlay(str(tmp_path / "built.yaml"))


def test_an_unknown_overlay_and_one_that_does_not_build_are_named(kubectl: None, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="--overlay azure: there is no such overlay: write local, aws, gcp, a folder"):
        read_overlay("azure")
    with pytest.raises(JobError, match=r"kustomize can't build it: unable to find one of 'kustomization.yaml'"):
        read_overlay(str(tmp_path))


def test_building_an_overlay_asks_no_cluster(kubectl: None, kube: Kube) -> None:
    assert read_overlay("aws")
    assert kube.requests == []


def test_a_missing_kubectl_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="kubectl is not installed, which builds the overlay"):
        read_overlay("local")


DIGEST = "0123456789ab"


@pytest.mark.parametrize(
    ("id", "name"),
    [
        (f"cells-{DIGEST}", f"cells-{DIGEST}"),
        (f"cells-{DIGEST}-12", f"cells-{DIGEST}-12"),
        (f"{'a' * 40}-{DIGEST}", f"{'a' * 34}-{DIGEST}"),
        (f"{'a' * 40}-{DIGEST}-2", f"{'a' * 32}-{DIGEST}-2"),
        (f"{'a' * 33}-b-{DIGEST}", f"{'a' * 33}-{DIGEST}"),
        (f"2024-cells-{DIGEST}", f"thaw-2024-cells-{DIGEST}"),
        (f"{'9' * 40}-{DIGEST}", f"thaw-{'9' * 29}-{DIGEST}"),
        (f"0-{DIGEST}", f"thaw-0-{DIGEST}"),
    ],
)
def test_a_name_is_one_that_kuberay_takes_and_keeps_what_tells_runs_apart(id: str, name: str) -> None:
    assert kube_name(id) == name
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= 47
