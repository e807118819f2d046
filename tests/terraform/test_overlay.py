"""From Terraform's outputs to an overlay that kustomize builds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from job.config.jobfile import load_job
from job.deploy.cloud import LARGEST, write_outputs
from job.errors import JobError
from support.hcl import CLOUDS, ROOT
from support.kustomize import build, of_kind, templates

OUTPUTS = Path(__file__).parent / "outputs"
ANNOTATIONS = {"aws": "eks.amazonaws.com/role-arn", "gcp": "iam.gke.io/gcp-service-account"}


def sample(cloud: str) -> dict[str, Any]:
    return json.loads((OUTPUTS / f"{cloud}.json").read_text())


def value(cloud: str, name: str) -> Any:
    return sample(cloud)[name]["value"]


def thaw_overlay(cloud: str, document: bytes, folder: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "job", "overlay", cloud, *more]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, input=document, capture_output=True, cwd=folder, env=env)


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def checkout(tmp_path: Path, cloud: str) -> Path:
    """A copy of k8s/, in whose overlay no output stands yet."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    shutil.rmtree(tmp_path / "k8s/overlays" / cloud / "outputs")
    return tmp_path


def test_outputs_become_an_overlay_that_builds(cloud: str, checkout: Path) -> None:
    done = thaw_overlay(cloud, (OUTPUTS / f"{cloud}.json").read_bytes(), checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == f"wrote k8s/overlays/{cloud}/outputs/kustomization.yaml\n"
    text = build(checkout / "k8s/overlays" / cloud)
    (rayjob,) = of_kind(text, "RayJob")
    images = {container["image"] for pod in templates(rayjob).values() for container in pod["spec"]["containers"]}
    assert {image.rpartition(":")[0] for image in images} == {value(cloud, "image_repository")}
    accounts = {each["metadata"]["name"]: each["metadata"] for each in of_kind(text, "ServiceAccount")}
    assert accounts["thaw-run"]["annotations"] == value(cloud, "run_service_account_annotation")
    assert "annotations" not in accounts["thaw-submit"]


def test_the_job_reads_and_writes_where_terraform_says(cloud: str, checkout: Path, tmp_path: Path) -> None:
    write_outputs(cloud, json.dumps(sample(cloud)).encode(), checkout / "k8s/overlays" / cloud / "outputs")
    found = of_kind(build(checkout / "k8s/overlays" / cloud), "ConfigMap")
    (configmap,) = [each for each in found if each["metadata"]["name"].startswith("thaw-job-")]
    (tmp_path / "job").mkdir()
    for name, content in configmap["data"].items():
        (tmp_path / "job" / name).write_text(content)
    job = load_job(tmp_path / "job")
    assert (job.data.source, job.store) == (value(cloud, "data_uri"), value(cloud, "store_uri"))
    assert job.scaling.gpu


def test_a_watcher_above_the_overlay_gets_its_queue_and_its_identity(cloud: str, checkout: Path) -> None:
    write_outputs(cloud, json.dumps(sample(cloud)).encode(), checkout / "k8s/overlays" / cloud / "outputs")
    watch = {"name": "thaw-watch", "literals": ["watch.yaml={}", "overlay.yaml={}"]}
    above = {
        "namespace": "thaw",
        "resources": [f"../k8s/overlays/{cloud}"],
        "components": ["../k8s/components/watch"],
        "configMapGenerator": [watch],
    }
    (checkout / "our").mkdir()
    (checkout / "our/kustomization.yaml").write_text(yaml.safe_dump(above))
    text = build(checkout / "our")
    (deployment,) = of_kind(text, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (asked,) = [variable["valueFrom"]["configMapKeyRef"] for variable in container["env"]]
    (queue,) = [each for each in of_kind(text, "ConfigMap") if each["metadata"]["name"] == asked["name"]]
    assert queue["data"] == {asked["key"]: value(cloud, "queue")}
    (account,) = [each for each in of_kind(text, "ServiceAccount") if each["metadata"]["name"] == "thaw-watch"]
    assert account["metadata"]["annotations"] == value(cloud, "watch_service_account_annotation")


def test_the_overlay_that_is_shipped_is_written_from_the_sample(cloud: str, tmp_path: Path) -> None:
    written = write_outputs(cloud, json.dumps(sample(cloud)).encode(), tmp_path / "outputs")
    assert written.read_text() == (ROOT / f"k8s/overlays/{cloud}/outputs/kustomization.yaml").read_text()


def test_writing_twice_is_writing_once(cloud: str, tmp_path: Path) -> None:
    for _ in range(2):
        written = write_outputs(cloud, json.dumps(sample(cloud)).encode(), tmp_path / "outputs")
    assert [file.name for file in (tmp_path / "outputs").iterdir()] == [written.name]


@pytest.mark.parametrize("missing", sorted(set(sample("aws")) - {"connect"}))
def test_nothing_changes_where_an_output_is_missing(cloud: str, missing: str, tmp_path: Path) -> None:
    written = write_outputs(cloud, json.dumps(sample(cloud)).encode(), tmp_path / "outputs")
    before = written.read_bytes()
    outputs = {**sample(cloud), "store_uri": {"value": "s3://other/"}}
    del outputs[missing]
    with pytest.raises(JobError, match=f"no output {missing}: have those of"):
        write_outputs(cloud, json.dumps(outputs).encode(), tmp_path / "outputs")
    assert written.read_bytes() == before


HOSTILE = {
    "data_uri": [
        "",
        None,
        7,
        [],
        "file:///etc/",
        "s3://bucket",
        "s3://BUCKET/a/",
        "s3://b\n/a/",
        's3://bucket/"}/',
        "s3:///a/",
    ],
    "store_uri": ["s3://bucket/a", "gs://bucket/a/b", {"s3": "bucket"}, "s3://bucket/a b/", "s3://bucket/$(x)/"],
    "queue": ["", "thaw-events", "http://sqs/1/x", "https://sqs/111122223333/a b", "projects/p/topics/t", 3],
    "run_service_account_annotation": [
        "arn:aws:iam::111122223333:role/thaw-run",
        {},
        {"eks.amazonaws.com/role-arn": 1},
        {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/a\nb"},
        {"iam.gke.io/gcp-service-account": "a@b"},
        {"other": "arn:aws:iam::111122223333:role/thaw-run"},
    ],
    "watch_service_account_annotation": [None, {"eks.amazonaws.com/role-arn": "*", "a": "b"}],
    "image_repository": [
        "",
        "registry/thaw:latest",
        "registry/thaw@sha256:00",
        "thaw",
        "registry/Thaw",
        "a b/c",
        "-/x",
    ],
}


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, all_bad in HOSTILE.items() for bad in all_bad])
def test_an_output_that_is_not_what_it_should_be_is_named(cloud: str, name: str, bad: Any, tmp_path: Path) -> None:
    outputs = {**sample(cloud), name: {"sensitive": False, "type": "string", "value": bad}}
    with pytest.raises(JobError, match=f"^Terraform's output {name} is not .*: got "):
        write_outputs(cloud, json.dumps(outputs).encode(), tmp_path / "outputs")
    assert not (tmp_path / "outputs").exists()


def test_the_outputs_of_the_other_cloud_are_refused(cloud: str, tmp_path: Path) -> None:
    (other,) = set(CLOUDS) - {cloud}
    with pytest.raises(JobError, match="output data_uri is not"):
        write_outputs(cloud, json.dumps(sample(other)).encode(), tmp_path / "outputs")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"", "standard input has nothing"),
        (b"No outputs found", "standard input has no JSON"),
        (b"\xff\xfe", "standard input has no JSON"),
        (b"[" * LARGEST, "standard input has no JSON"),
        (b"[]", "is an object, got list"),
        (b"{}", "no output data_uri, store_uri, queue, "),
        (b'{"data_uri": "s3://bucket/"}', "no output store_uri"),
    ],
    ids=["empty", "no outputs", "not text", "deep", "list", "none", "values alone"],
)
def test_what_is_no_output_of_terraform_ends_with_2(document: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "k8s/overlays/aws").mkdir(parents=True)
    done = thaw_overlay("aws", document, tmp_path)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2
    assert line.startswith("thaw: ")
    assert told in line
    assert not list((tmp_path / "k8s/overlays/aws").iterdir())


def test_a_file_that_somebody_wrote_is_not_replaced(tmp_path: Path) -> None:
    own = tmp_path / "kustomization.yaml"
    own.write_text("resources: [mine.yaml]\n")
    with pytest.raises(JobError, match="was not written by this command"):
        write_outputs("aws", json.dumps(sample("aws")).encode(), tmp_path)
    assert own.read_text() == "resources: [mine.yaml]\n"


def test_outside_of_a_checkout_the_folder_has_to_be_named(tmp_path: Path) -> None:
    done = thaw_overlay("gcp", (OUTPUTS / "gcp.json").read_bytes(), tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert b"there is no folder k8s/overlays/gcp: run this where k8s/ is" in done.stderr
    done = thaw_overlay("gcp", (OUTPUTS / "gcp.json").read_bytes(), tmp_path, "--into", "made")
    assert (done.returncode, done.stdout) == (0, b"wrote made/kustomization.yaml\n")
