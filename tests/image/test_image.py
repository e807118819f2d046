"""The image, really built, and run as Kubernetes runs it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from job import __version__
from job.storage import open_store
from job.telemetry import run_metrics as run_meter
from job.training import throughput as meter
from support.container import ROOT, Container, built_container
from support.prepared import prepare_run
from support.tools import leave_out, need

pytestmark = pytest.mark.image
JOB = """
name: contained
data: {{source: file:///data/source/}}
store: file:///data/store/
model: {{backbone: "file:///data/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 3, learning_rate: 3e-3}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 2, learning_rate: 1e-3, allow_unconverged_head: true}}
train: {{batch_size: 16}}
scaling: {{workers: 2}}
"""
PROBES = """
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=of-this-cluster-and-no-other
ray start --head --num-cpus=0 --block > /tmp/ray.log 2>&1 &
for try in $(seq 60); do
  wget --tries 1 -T 2 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success &&
  wget --tries 1 -T 10 -q -O- http://localhost:8265/api/gcs_healthz | grep success &&
  ray job submit --address http://localhost:8265 -- thaw --version && taken=yes && break
  sleep 1
done
export RAY_AUTH_TOKEN=of-another-cluster-and-not-of-this-one
test "$taken" && ! ray job list --address http://localhost:8265 && exit 0
cat /tmp/ray.log; exit 1
"""
"""As in a pod: the probes have no token, and jobs need that of the cluster."""
METRICS = """
export RAY_metrics_report_interval_ms=1000
ray start --head --node-ip-address=127.0.0.1 --num-cpus=8 --metrics-export-port=8080 > /tmp/ray.log 2>&1
RAY_ADDRESS=auto thaw run /data/job.yaml $SET > /tmp/run.log 2>&1 &
while kill -0 $! 2> /dev/null; do
  wget -q -O- --tries=1 --timeout=5 http://127.0.0.1:8080/metrics | grep '^ray_thaw' >> /tmp/metrics
  sleep 1
done
wait $!; test $? = $CODE && sort -u /tmp/metrics && exit 0
tail -50 /tmp/run.log; exit 1
"""
"""As the pods' port `metrics` is read, while a run goes on."""
BOARD = """
thaw tensorboard /data/job.yaml > /tmp/board.log 2>&1 &
for try in $(seq 60); do
  wget --quiet --tries=1 --timeout=5 --output-document=/dev/null http://127.0.0.1:6006/ && exit 0
  sleep 1
done
cat /tmp/board.log; exit 1
"""


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    need("buildah", "debootstrap", "unshare")
    if os.geteuid() != 0:
        leave_out("building the image needs root")
    with built_container(tmp_path_factory.mktemp("image")) as container:
        yield container


@pytest.fixture
def work(tmp_path: Path) -> Path:
    os.chmod(tmp_path, 0o777)
    return tmp_path


def test_it_has_what_kuberay_needs_and_nothing_to_build_with(container: Container) -> None:
    assert container.config["User"] == "1000:1000"
    assert container.config["Labels"]["thaw.variant"] == "cpu"
    folders = [container.root / name for name in ("usr/bin", "usr/local/bin", "opt/thaw/bin")]
    programs = {path.name for folder in folders if folder.exists() for path in folder.iterdir()}
    assert {"bash", "wget", "ray", "thaw"} <= programs
    assert not [name for name in programs if re.fullmatch(r"gcc.*|cc|make|pip[0-9.]*|easy_install.*", name)]
    libraries = [container.root / "usr/local/lib", container.root / "usr/lib"]
    names = {path.name for folder in libraries for path in folder.glob("python3*/*-packages/*")}
    assert not names & {"pip", "setuptools", "wheel"}
    assert container.size < 2.7e9


def test_it_says_what_is_in_it(container: Container) -> None:
    """As many parts as were pinned for such a machine, and Thaw itself."""
    parts = json.loads((container.root / "opt/thaw/sbom.cdx.json").read_text())["components"]
    lines = re.findall(r"^[a-z0-9].*(?= \\$)", (ROOT / "requirements/cpu.txt").read_text(), re.MULTILINE)
    wanted = [found for found in map(Requirement, lines) if found.marker is None or found.marker.evaluate()]
    pinned = [(found.name, str(found.specifier).removeprefix("==")) for found in wanted]
    named = {(re.sub("[-_.]+", "-", part["name"]).lower(), part["version"]) for part in parts}
    assert {*pinned, ("thaw", __version__)} - named == set()


def test_help(container: Container, work: Path) -> None:
    done = container.run(*container.config["Entrypoint"], *container.config["Cmd"], work=work)
    assert done.returncode == 0, done.stderr
    assert "Transfer learning as a job" in done.stdout


def test_its_root_is_read_only_and_nobody_in_it_is_root(container: Container, work: Path) -> None:
    done = container.run("bash", "-c", "id -u; touch /opt/thaw/x", work=work)
    assert (done.stdout.strip(), done.returncode) == ("1000", 1)
    assert "Read-only file system" in done.stderr


def test_two_workers_train(container: Container, work: Path) -> None:
    prepare_run(work, JOB)
    done = container.run("thaw", "run", "/data/job.yaml", "--json", work=work, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "training on 2 workers" in done.stderr
    model = json.loads(done.stdout)["model"].replace("/data/", f"{work}/")
    assert open_store(model).stat("weights.safetensors")


def test_ray_answers_what_the_probes_ask_and_takes_a_job(container: Container, work: Path) -> None:
    done = container.run("bash", "-c", PROBES, work=work)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "thaw, version" in done.stdout


def test_prometheus_reads_of_a_run_what_dashboard_and_alerts_ask_for(container: Container, work: Path) -> None:
    prepare_run(work, JOB)
    long = "SET='--set phases.head.epochs=40 --set phases.head.patience=40' CODE=0\n"
    done = container.run("bash", "-c", long + METRICS, work=work, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    read = set(re.findall(r"^(ray_thaw\w+)\{.*run_id=\"contained-", done.stdout, re.MULTILINE))
    counted = {name for name in meter.COUNTERS if "wait" not in name}  # it is deterministic
    wanted = {f"ray_{name}_total" for name in counted} | {f"ray_{name}" for name in run_meter.GAUGES}
    wanted |= {"ray_thaw_loss", "ray_thaw_checkpoint_seconds_bucket"}
    assert wanted <= read


def test_prometheus_reads_of_a_loss_that_is_not_finite_before_the_run_ends(container: Container, work: Path) -> None:
    prepare_run(work, JOB)
    wrong = "SET='--set phases.head.learning_rate=1e38' CODE=5\n"
    done = container.run("bash", "-c", wrong + METRICS, work=work, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    read = re.findall(r"^ray_thaw_loss_not_finite\{.*\} (\S+)$", done.stdout, re.MULTILINE)
    assert {"0.0", "1.0"} <= set(read)


def test_tensorboard_answers(container: Container, work: Path) -> None:
    prepare_run(work, JOB)
    (work / "store").mkdir()
    done = container.run("bash", "-c", BOARD, work=work)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
