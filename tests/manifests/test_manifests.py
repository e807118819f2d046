from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from job import __version__
from job.arrival.settings import Watch
from job.config.jobfile import checked
from job.deploy.fitting import cores
from job.deploy.manifest import INSTANCE
from support.kustomize import (
    BUILT_WITH,
    COMPONENTS,
    K8S,
    OVERLAYS,
    TOGETHER,
    build,
    build_with,
    documents,
    of_kind,
    selects,
    templates,
)
from support.validated import pods_of, validate

GOLDEN = Path(__file__).parent / "golden"


def with_what_it_needs(component: str) -> list[str]:
    return [*BUILT_WITH.get(component, []), component]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_of_an_overlay_is_valid(overlay: str) -> None:
    check(build(K8S / "overlays" / overlay))


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_valid_with_each_component_that_it_does_not_have(overlay: str, tmp_path: Path) -> None:
    own = (K8S / "overlays" / overlay / "kustomization.yaml").read_text()
    for component in COMPONENTS:
        if f"components/{component}" not in own:
            also = [both for name, both in TOGETHER.get(component, {}).items() if f"components/{name}" in own]
            needs = [name for name in BUILT_WITH.get(component, []) if f"components/{name}" not in own]
            check(build_with(tmp_path, f"overlays/{overlay}", [*needs, component, *also]))


@pytest.mark.parametrize(
    "components",
    [
        "gpu nvme-cache spot",
        "gpu spot volume nvme-cache",
        "nvme-cache gpu spot volume",
        "volume tensorboard tensorboard/volume",
        "gpu spot kueue kueue/spot",
        "kueue monitoring nvme-cache gpu spot kueue/spot",
        "monitoring watch watch/monitoring",
        "monitoring monitoring/alerts",
        "watch keda keda/pubsub gke-metadata",
        "gpu spot kueue kueue/spot kueue/elastic kueue/topology",
        "gpu spot topology nvme-cache",
        "nvme-cache gpu spot topology volume schedule",
    ],
)
def test_components_that_go_together(components: str, tmp_path: Path) -> None:
    check(build_with(tmp_path, "base", components.split()))


def check(text: str) -> None:
    objects = documents(text)
    there = {(document["kind"], document["metadata"]["name"]) for document in objects}
    policies = [policy["spec"]["podSelector"] for policy in of_kind(text, "NetworkPolicy")]
    for document in objects:
        if document["kind"] != "PrometheusRule":  # promtool checks it
            validate(document)
        for pod in pods_of(document):
            check_pod(pod["spec"])
            assert any(selects(policy, pod["metadata"]["labels"]) for policy in policies)
        assert set(references(document)) <= there


def check_pod(spec: dict[str, Any]) -> None:
    """It may do little where a container is broken out of, and has its share of a node."""
    assert not {"hostIPC", "hostNetwork", "hostPID"} & spec.keys()
    assert not [volume for volume in spec.get("volumes", []) if "hostPath" in volume]
    assert "automountServiceAccountToken" in spec
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        allowed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == allowed
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


def test_the_pod_that_images_are_copied_with_fits_the_overlay() -> None:
    pod = yaml.safe_load((K8S / "overlays/local/load.yaml").read_text())
    validate(pod)
    check_pod(pod["spec"])
    (claim,) = of_kind(build(K8S / "overlays/local"), "PersistentVolumeClaim")
    assert pod["metadata"]["namespace"] == claim["metadata"]["namespace"]
    assert ("PersistentVolumeClaim", claim["metadata"]["name"]) in set(references(pod))


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_a_component_changes_is_what_was_looked_at(component: str, tmp_path: Path) -> None:
    """THAW_WRITE_GOLDEN=1 writes the files anew, to be looked at."""
    *others, _ = with_what_it_needs(component)
    before, after = (build_with(tmp_path, "base", names) for names in (others, with_what_it_needs(component)))
    changes = difflib.unified_diff(before.splitlines(), after.splitlines(), "without", component, n=2, lineterm="")
    told = "\n".join(line for line in changes if not line.startswith("@@")) + "\n"
    golden = GOLDEN / f"{component}.diff"
    if os.environ.get("THAW_WRITE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()


def test_names_that_kustomize_changes_arrive_in_all_pods(tmp_path: Path) -> None:
    text = build_with(tmp_path, "base", ["gpu", "spot", "volume", "kueue"], namePrefix="team-")
    (rayjob,) = of_kind(text, "RayJob")
    pods = templates(rayjob)
    (queue,) = of_kind(text, "LocalQueue")
    labels = rayjob["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"] == "team-thaw"
    assert labels[INSTANCE] == rayjob["metadata"]["name"] == "team-thaw"
    (job,) = of_kind(text, "ConfigMap")
    assert re.fullmatch("team-thaw-job-[a-z0-9]{10}", job["metadata"]["name"])
    names = {kind: {d["metadata"]["name"] for d in of_kind(text, kind)} for kind in ("ServiceAccount", "PriorityClass")}
    for who, template in pods.items():
        assert template["metadata"]["labels"][INSTANCE] == "team-thaw"
        assert template["spec"]["serviceAccountName"] == "team-thaw-run" in names["ServiceAccount"]
        assert template["spec"]["priorityClassName"] in names["PriorityClass"]
        if who != "submitter":
            volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
            assert volumes["job"]["configMap"]["name"] == job["metadata"]["name"]
        if who == "head":
            assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "team-thaw-data"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_image_and_ray_each_have_one_version(overlay: str) -> None:
    text = build(K8S / "overlays" / overlay)
    (rayjob,) = of_kind(text, "RayJob")
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    images = {c["image"] for template in templates(rayjob).values() for c in template["spec"]["containers"]}
    (image,) = images
    assert image.rpartition(":")[2] == __version__
    sources = "".join(path.read_text() for path in K8S.rglob("*.yaml"))
    assert (sources.count(__version__), sources.count(f"rayVersion: {version('ray')}")) == (1, 1)


def test_kueue_lets_workers_alone_run_on_spot_nodes(tmp_path: Path) -> None:
    text = build_with(tmp_path, "overlays/aws", ["kueue", "kueue/spot"])
    (rayjob,) = of_kind(text, "RayJob")
    flavors = {
        flavor["metadata"]["name"]: flavor for flavor in of_kind(build(K8S / "platform/kueue-spot"), "ResourceFlavor")
    }
    (taint,) = flavors["spot"]["spec"]["nodeTaints"]
    tolerated = {
        who: taint["key"] in {toleration["key"] for toleration in template["spec"].get("tolerations", [])}
        for who, template in templates(rayjob).items()
    }
    assert tolerated == {"submitter": False, "head": False, "on-demand": True}


def test_what_all_runs_share_is_whole_without_the_run(tmp_path: Path) -> None:
    """docs/kubernetes.md applies all objects but those of the component `run`."""
    text = build_with(tmp_path, "overlays/local", ["tensorboard", "tensorboard/volume", "kueue"])
    all_objects = documents(text)
    kept = [o for o in all_objects if o["metadata"].get("labels", {}).get("app.kubernetes.io/component") != "run"]
    assert {o["kind"] for o in all_objects} - {o["kind"] for o in kept} == {"RayJob"}
    there = {(o["kind"], o["metadata"]["name"]) for o in kept}
    wanted = {reference for o in kept for reference in references(o)}
    assert {kind for kind, _ in wanted} == {"ConfigMap", "PersistentVolumeClaim", "Role", "ServiceAccount"}
    assert wanted <= there


def references(document: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of the objects of this namespace that it names."""
    if isinstance(document, list):
        for item in document:
            yield from references(item)
    elif isinstance(document, dict):
        for key, value in document.items():
            if key == "configMap":
                yield "ConfigMap", value["name"]
            elif key == "persistentVolumeClaim":
                yield "PersistentVolumeClaim", value["claimName"]
            elif key == "serviceAccountName":
                yield "ServiceAccount", value
            elif key in ("roleRef", "subjects"):
                yield from ((it["kind"], it["name"]) for it in (value if isinstance(value, list) else [value]))
            else:
                yield from references(value)


@pytest.mark.parametrize("overlay", ["aws", "gcp"])
def test_a_component_that_changes_workers_changes_those_on_spot_nodes_too(overlay: str, tmp_path: Path) -> None:
    """The overlays list `spot` themselves, so that it is before what a user lists."""
    (rayjob,) = of_kind(build_with(tmp_path, f"overlays/{overlay}", ["nvme-cache", "volume"]), "RayJob")
    first, *others = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "nvme" in str(first)
    assert "thaw-data" in str(first)
    assert len(others) == 1
    for group in others:
        assert differences(group, first) == {"groupName", "priority", "template"}
        assert differences(group["template"], first["template"]) == {"spec"}
        assert differences(group["template"]["spec"], first["template"]["spec"]) <= {"nodeSelector", "tolerations"}


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in one | other if one.get(name) != other.get(name)}


@pytest.mark.parametrize("queues", ["kueue", "kueue-spot"])
def test_the_queue_has_room_for_two_of_the_largest_runs(queues: str, tmp_path: Path) -> None:
    """With what asks for most; where there are flavours, each of them has."""
    text, platform = build_with(tmp_path, "base", ["gpu", "nvme-cache", "kueue"]), build(K8S / "platform" / queues)
    for document in documents(platform):
        validate(document)
    (rayjob,), (local,) = of_kind(text, "RayJob"), of_kind(text, "LocalQueue")
    (queue,) = of_kind(platform, "ClusterQueue")
    assert local["spec"]["clusterQueue"] == queue["metadata"]["name"]
    (worker,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pods = {who: (template, 1) for who, template in templates(rayjob).items()}
    pods[worker["groupName"]] = worker["template"], worker["replicas"]
    asked: Counter[str] = Counter()
    for template, count in pods.values():
        for container in template["spec"]["containers"]:
            resources = container["resources"]
            for name, quantity in {**resources["limits"], **resources["requests"]}.items():
                asked[name] += count * cores(quantity)
    for flavor in queue["spec"]["resourceGroups"][0]["flavors"]:
        quota = {each["name"]: cores(each["nominalQuota"]) for each in flavor["resources"]}
        assert set(quota) == set(asked)
        assert {name for name, amount in asked.items() if 2 * amount > quota[name]} == set()


def test_no_task_runs_on_the_head_and_workers_scale_from_zero() -> None:
    (rayjob,) = of_kind(build(K8S / "base"), "RayJob")
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["enableInTreeAutoscaling"]
    assert [group["minReplicas"] for group in cluster["workerGroupSpecs"]] == [0]


def test_there_is_time_for_a_checkpoint_before_a_pod_is_killed() -> None:
    (rayjob,) = of_kind(build(K8S / "base"), "RayJob")
    for who, template in templates(rayjob).items():
        if who != "submitter":
            (container,) = template["spec"]["containers"]
            *command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command == ["thaw", "drain", "--seconds"]
            assert template["spec"]["terminationGracePeriodSeconds"] >= int(seconds) + 30
        if who == "head":  # where Ray ends the job of a RayJob that is deleted
            stop = {each["name"]: each.get("value") for each in container["env"]}["RAY_JOB_STOP_WAIT_TIME_S"]
            assert int(stop) == int(seconds)


def test_ray_still_reads_how_long_a_job_may_take_to_end() -> None:
    source = Path(str(files("ray").joinpath("dashboard/modules/job/job_supervisor.py"))).read_text()
    assert '"RAY_JOB_STOP_WAIT_TIME_S"' in source


def test_a_pod_asks_for_the_disk_that_it_may_fill(tmp_path: Path) -> None:
    (rayjob,) = of_kind(build_with(tmp_path, "base", ["nvme-cache"]), "RayJob")
    for who in ("head", "on-demand"):
        spec = templates(rayjob)[who]["spec"]
        folders = [volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume]
        may_fill = sum(cores(folder["sizeLimit"]) for folder in folders if "medium" not in folder)
        assert cores(spec["containers"][0]["resources"]["requests"]["ephemeral-storage"]) == may_fill


def test_shared_memory_holds_the_object_store() -> None:
    """Ray would put it on disk otherwise, with a warning that nobody reads."""
    (rayjob,) = of_kind(build(K8S / "base"), "RayJob")
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (size,) = [v["emptyDir"]["sizeLimit"] for v in group["template"]["spec"]["volumes"] if v["name"] == "shm"]
        number, unit = int(size[:-2]), {"Mi": 2**20, "Gi": 2**30}[size[-2:]]
        assert number * unit > int(group["rayStartParams"]["object-store-memory"])


def watcher(text: str) -> tuple[dict[str, Any], Watch]:
    """The pod of the watcher, and the watch file that is mounted in it, with the queue of its environment."""
    (owner,) = of_kind(text, "Deployment") or of_kind(text, "ScaledJob")
    pod = owner["spec"].get("jobTargetRef", owner["spec"])["template"]["spec"]
    files = {item["metadata"]["name"]: item["data"] for item in of_kind(text, "ConfigMap")}
    (name,) = (volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "watch")
    (queue,) = (variable["valueFrom"]["configMapKeyRef"] for variable in pod["containers"][0]["env"])
    told = files.get(queue["name"], {queue["key"]: "https://sqs.eu-central-1.amazonaws.com/111122223333/any"})
    document = {"queue": told[queue["key"]], **yaml.safe_load(files[name]["watch.yaml"])}
    return pod, checked(Watch, document, "watch.yaml")


@pytest.mark.parametrize("components", [["watch"], ["watch", "keda"]])
def test_the_watcher_finds_what_its_watch_file_names(components: list[str], tmp_path: Path) -> None:
    """With prefixed names, too."""
    text = build_with(tmp_path, "overlays/aws", components, namePrefix="team-")
    pod, watch = watcher(text)
    (container,) = pod["containers"]
    maps = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    files = {item["metadata"]["name"]: item["data"] for item in of_kind(text, "ConfigMap")}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    mounted = {mounts[volume]: set(files[name]) for volume, name in maps.items()}
    (rule,) = watch.jobs
    assert mounted[rule.job] >= {"job.yaml", "uris.yaml"}
    folder, _, name = container["args"][1].rpartition("/")
    assert mounted[folder] == {name, rule.overlay}
    assert watch.listen is not None
    assert [port["containerPort"] for port in container["ports"]] == [watch.listen.port]
    assert pod["serviceAccountName"] == "team-thaw-watch"


def test_the_example_of_an_overlay_has_what_rayjobs_are_made_of(tmp_path: Path) -> None:
    example, here = K8S.parent / "examples/arrival", os.path.relpath(K8S, tmp_path.resolve())
    (tmp_path / "overlay.yaml").write_text(build(K8S / "overlays/aws"))
    for file in example.iterdir():
        (tmp_path / file.name).write_text(file.read_text().replace("../../k8s", here))
    text = build(tmp_path)
    check(text)
    files = {item["metadata"]["name"].rpartition("-")[0]: item["data"] for item in of_kind(text, "ConfigMap")}
    assert set(files["thaw-watch"]) == {"watch.yaml", "overlay.yaml"}
    assert len(of_kind(files["thaw-watch"]["overlay.yaml"], "RayJob")) == 1


def test_keda_looks_at_the_queue_that_the_watcher_reads(tmp_path: Path) -> None:
    text = build_with(tmp_path, "overlays/aws", ["watch", "keda"])
    (scaled,) = of_kind(text, "ScaledJob")
    (trigger,) = scaled["spec"]["triggers"]
    _, watch = watcher(text)
    assert trigger["metadata"]["queueURL"] == watch.queue
    assert trigger["metadata"]["awsRegion"] in watch.queue


def test_what_all_runs_share_has_all_that_the_watcher_needs(tmp_path: Path) -> None:
    """It is applied without what has the label of a run: see docs/kubernetes.md."""
    text = build_with(tmp_path, "base", ["watch"])
    applied = [
        d for d in documents(text) if d["metadata"].get("labels", {}).get("app.kubernetes.io/component") != "run"
    ]
    names = {document["metadata"]["name"] for document in applied if document["kind"] == "ConfigMap"}
    pod, _ = watcher(text)
    assert names >= {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert "RayJob" not in {document["kind"] for document in applied}


def test_the_watcher_may_do_what_it_does_and_nothing_else() -> None:
    text = (K8S / "components/watch/access.yaml").read_text()
    (role,) = of_kind(text, "Role")
    rules = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in role["rules"]}
    assert rules == {
        ("ray.io", "rayjobs"): {"create", "delete", "get", "list"},
        ("", "configmaps"): {"create", "delete", "get", "patch"},
    }
