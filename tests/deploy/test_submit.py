"""Submitting, also when it was cut short before, to an API server on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from job.cli import thaw
from job.config import Job
from job.config.jobfile import dump_job, parse_job
from job.data.sources.packed import list_shards, make_index, records_of, without_index
from job.deploy.manifest import images
from job.deploy.naming import name_run
from job.deploy.submit import Options, Submitted, render, submit
from job.errors import ClusterError, JobError
from job.run.identity import latest_run
from job.run.lease import take
from job.run.outcome import PromotionDecision
from job.run.state import create_state, first_state, read_state
from job.storage import open_store
from job.storage.documents import write_document
from job.storage.run_keys import RunKeys
from support.kube import Kube
from support.results import write_result
from support.shards import examples, webdataset_of


def submitted(job: Job, overlay: str, said: Any, new: bool = False) -> Submitted:
    return submit(job, Options(overlay), said, new=new)


def writes(kube: Kube) -> list[tuple[str, str]]:
    return [request for request in kube.requests if request[0] not in ("GET", "WATCH")]


def test_a_rayjob_is_created_that_owns_its_configmap(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    result = submitted(job, overlay, said)
    run = name_run(job, said).run
    assert result == Submitted("submitted", run, "thaw", f"{job.store}runs/{run}/")
    rayjob, configmap = kube.get("rayjobs", run), kube.get("configmaps", run)
    assert parse_job(configmap["data"]["job.yaml"]) == job
    assert configmap["metadata"]["ownerReferences"] == [
        {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": run, "uid": rayjob["metadata"]["uid"]}
    ]
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    assert head["spec"]["volumes"][0] == {"name": "job", "configMap": {"name": run}}
    assert rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 3
    assert writes(kube) == [("POST", "configmaps"), ("POST", "rayjobs"), ("PATCH", "configmaps")]


def test_submitting_twice_is_one_rayjob(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    first, second = submitted(job, overlay, said), submitted(job, overlay, said)
    assert second == replace(first, state="submitted already")
    assert f"{first.name} is submitted already" in said
    assert len([key for key in kube.objects if key[0] == "rayjobs"]) == 1


class Cut(BaseException):
    """The process dies."""


@pytest.mark.parametrize("step", range(1, 5))
def test_submitting_again_mends_what_was_cut_short(
    step: int, kube: Kube, job: Job, overlay: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from job.deploy.api import Api

    made, request = [], Api._document

    def dies(self: Api, verb: str, *arguments: Any, **more: Any) -> Any:
        made.append(verb)
        if len(made) == step:
            raise Cut
        return request(self, verb, *arguments, **more)

    monkeypatch.setattr(Api, "_document", dies)
    with pytest.raises(Cut):
        submitted(job, overlay, said)
    monkeypatch.setattr(Api, "_document", request)
    result = submitted(job, overlay, said)
    assert result.state == ("submitted already" if step == 4 else "submitted")
    rayjob = kube.get("rayjobs", result.name)
    (owner,) = kube.get("configmaps", result.name)["metadata"]["ownerReferences"]
    assert owner["uid"] == rayjob["metadata"]["uid"]


def test_other_settings_replace_a_job_file_that_no_rayjob_reads(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    name = submitted(job, overlay, said).name
    kube.remove("rayjobs", name)
    kube.edit("configmaps", name, {"data": {"more.yaml": "x: 1"}})
    elastic = job.model_copy(update={"scaling": parse_job(dump_job(job), ["scaling.workers=9"]).scaling})
    assert submitted(elastic, overlay, said).state == "submitted"
    data = kube.get("configmaps", name)["data"]
    assert list(data) == ["job.yaml"]
    assert parse_job(data["job.yaml"]).scaling.workers == 9


def test_other_settings_leave_a_rayjob_as_it_is_and_say_so(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    name = submitted(job, overlay, said).name
    before = kube.get("configmaps", name)["data"]
    elastic = parse_job(dump_job(job), ["scaling.workers=9"])
    assert submitted(elastic, overlay, said).state == "submitted already"
    assert f"{name} keeps the settings that it was submitted with, which differ from these" in said
    assert kube.get("configmaps", name)["data"] == before


def test_a_configmap_that_goes_with_an_earlier_rayjob_is_made_again(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    name = submitted(job, overlay, said).name
    kube.remove("rayjobs", name)

    def collect(method: str, plural: str) -> None:
        if (method, plural) == ("PATCH", "configmaps") and ("configmaps", name) in kube.objects:
            kube.on_request = lambda *_, **__: None
            kube.remove("configmaps", name)

    kube.on_request = collect
    submitted(job, overlay, said)
    (owner,) = kube.get("configmaps", name)["metadata"]["ownerReferences"]
    assert owner["uid"] == kube.get("rayjobs", name)["metadata"]["uid"]


def test_a_rayjob_that_is_just_being_deleted_is_not_taken_for_a_new_one(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    name = submitted(job, overlay, said).name
    kube.edit("rayjobs", name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    with pytest.raises(ClusterError, match="is just being deleted: submit again when it is gone"):
        submitted(job, overlay, said)


def test_a_rayjob_that_has_failed_says_how_to_run_it_again(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    name = submitted(job, overlay, said).name
    kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": "Failed"}})
    submitted(job, overlay, said)
    assert said[-1].endswith(f"has failed: to run it again, `thaw cancel {name}`, then submit again")


def finish(job: Job, run: str) -> str:
    """The URI of the run."""
    store = open_store(job.store)
    create_state(store, run, first_state(None))
    write_document(store, RunKeys(run).promotion, PromotionDecision(True, "it is the first", run, None))
    return write_result(store, run).run


def test_a_finished_run_is_not_submitted_but_another_one_may_be(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    run = str(name_run(job, said).run)
    uri = finish(job, run)
    assert submitted(job, overlay, said) == Submitted("finished", None, None, uri)
    assert writes(kube) == []
    assert submitted(job, overlay, said, new=True).name == f"{run}-2"


def test_another_run_is_the_one_that_the_pods_take_and_is_made_once(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    run, store = str(name_run(job, said).run), open_store(job.store)
    finish(job, run)
    for state in ("submitted", "submitted already"):
        assert submitted(job, overlay, said, new=True).state == state
        assert latest_run(store, run, False) == f"{run}-2"
    with take(store, f"{run}-2", said, lost=lambda error: None) as lease:
        assert lease.state.token.attempt == 1
    assert submitted(job, overlay, said, new=True).name == f"{run}-3"


@pytest.fixture
def packed(job: Job) -> Job:
    open_store(job.data.source).write("a.tar", webdataset_of(examples(60)))
    return parse_job(dump_job(job), ["data.layout=webdataset"])


def write_indexes(job: Job) -> None:
    """As the run does."""
    source, store = open_store(job.data.source), open_store(job.store)
    for key, shard in without_index(job.data, source, store, shards=list_shards(job.data, source)).items():
        filesystem, root = source.arrow()
        with filesystem.open_input_stream(f"{root}/{shard.key}") as file:
            store.write(key, make_index(records_of(file, job.data, source.uri + shard.key)))


def test_packed_sources_are_named_after_their_shards_with_or_without_indexes(packed: Job, said: Any) -> None:
    before = name_run(packed, said)
    assert before.run is None
    assert name_run(packed, said, new=True) == before
    write_indexes(packed)
    after = name_run(packed, said)
    assert after.id == before.id
    assert after.run not in (None, after.id)
    finish(packed, str(after.run))
    assert name_run(packed, said).finished is not None
    another = name_run(packed, said, new=True)
    assert (another.id, another.run) == (f"{before.id}-2", f"{after.run}-2")
    open_store(packed.data.source).write("b.tar", webdataset_of(examples(60, start=60)))
    assert name_run(packed, said).id not in (before.id, another.id)


def test_what_lies_in_the_clusters_own_volume_is_named_after_the_job_file(overlay: str, said: Any) -> None:
    text = "{name: cells, data: {source: 'file:///not here/images/'}, store: 'file:///not here/thaw/'}"
    job = parse_job(text)
    naming = name_run(job, said)
    assert naming.run is None
    assert naming == name_run(job, said)
    assert naming.id != name_run(parse_job(text, ["train.seed=1"]), said).id
    assert "the cluster lists them" in said[0]
    with pytest.raises(JobError, match=r"--new: the runs in file:///not here/thaw/ can't be seen from here"):
        name_run(job, said, new=True)
    assert "thaw/run" not in render(job, Options(overlay), said)[1]["metadata"]["annotations"]


@pytest.fixture
def job_file(job: Job, tmp_path: Path) -> str:
    (tmp_path / "job.yaml").write_text(dump_job(job))
    return str(tmp_path / "job.yaml")


def test_render_prints_what_submit_creates(kube: Kube, job_file: str, overlay: str) -> None:
    arguments = [job_file, "--overlay", overlay, "--image", "registry/thaw:2"]
    rendered = CliRunner().invoke(thaw, ["render", *arguments])
    assert rendered.exit_code == 0
    assert rendered.stdout == CliRunner().invoke(thaw, ["render", *arguments]).stdout
    assert kube.requests == []
    configmap, rayjob = yaml.safe_load_all(rendered.stdout)
    assert "  job.yaml: |\n    name: cells\n" in rendered.stdout
    CliRunner().invoke(thaw, ["submit", *arguments])
    made = kube.get("rayjobs", rayjob["metadata"]["name"])
    del made["metadata"]["resourceVersion"], made["metadata"]["uid"]
    assert made == rayjob
    assert kube.get("configmaps", rayjob["metadata"]["name"])["data"] == configmap["data"]


@pytest.mark.parametrize("verb", ["render", "submit"])
def test_a_job_that_is_to_be_embedded_is_no_rayjob(verb: str, kube: Kube, job_file: str, overlay: str) -> None:
    embedded = ["--set", "scaling={executor: local}"]
    done = CliRunner().invoke(thaw, [verb, job_file, "--overlay", overlay, *embedded])
    assert isinstance(done.exception, JobError)
    told = "scaling.executor: local: a RayJob runs on Ray: write auto or ray, or use `thaw run`."
    assert (str(done.exception), done.exception.exit_code) == (told, 2)
    assert kube.requests == []
    assert done.stdout == ""


def test_submit_prints_where_to_look(kube: Kube, job_file: str, overlay: str) -> None:
    done = CliRunner().invoke(thaw, ["submit", job_file, "--overlay", overlay, "--context", "here"])
    assert done.exit_code == 0
    ((_, name),) = [key for key in kube.objects if key[0] == "rayjobs"]
    assert f"rayjob  {name}, submitted (namespace thaw)\nrun     file://" in done.stdout
    assert f"  thaw status {name} -n thaw --context here\n" in done.stdout
    assert f"  kubectl get rayjob {name} -n thaw --context here -o custom-columns=NAME:.metadata.name," in done.stdout
    done = CliRunner().invoke(thaw, ["submit", job_file, "--overlay", overlay, "--json"])
    assert json.loads(done.stdout)["state"] == "submitted already"


def test_following_ends_with_the_exit_code_of_the_job(kube: Kube, job_file: str, overlay: str) -> None:
    def fail(method: str, plural: str) -> None:
        for kind, name in list(kube.objects):
            if (method, plural, kind) == ("WATCH", "rayjobs", "rayjobs"):
                kube.on_request = lambda *_, **__: None
                ended = {
                    "metadata": {"annotations": {"thaw/exit-code": "3"}},
                    "status": {"jobDeploymentStatus": "Failed"},
                }
                kube.edit("rayjobs", name, ended)

    kube.on_request = fail
    done = CliRunner().invoke(thaw, ["submit", job_file, "--overlay", overlay, "--follow", "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["exit_code"] == 3


def test_a_cluster_without_kuberay_is_found_before_the_bucket_is_listed(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    before = list(open_store(job.store).list(""))
    kube.has_kuberay = False
    with pytest.raises(ClusterError, match="KubeRay is not installed in this cluster: see k8s/platform/"):
        submitted(job, overlay, said)
    assert (said, writes(kube), list(open_store(job.store).list(""))) == ([], [], before)


def test_a_context_that_is_not_there_is_found_before_the_bucket_is_listed(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    with pytest.raises(ClusterError, match="the cluster of context nowhere is not in it"):
        submit(job, Options(overlay, context="nowhere"), said, new=True)
    assert (said, kube.requests) == ([], [])


@pytest.mark.parametrize("status", [403, 422])
def test_a_rayjob_that_is_refused_leaves_nothing_behind(
    status: int, kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    kube.answer("POST", "rayjobs", status, {"message": "denied by a policy"})
    with pytest.raises(ClusterError, match=r"create rayjobs in namespace thaw: .*denied by a policy"):
        submitted(job, overlay, said)
    assert kube.objects == {}


def test_a_configmap_that_was_there_before_a_refused_rayjob_stays(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    name = submitted(job, overlay, said).name
    kube.remove("rayjobs", name)
    kube.answer("POST", "rayjobs", 422, {"message": "denied"})
    with pytest.raises(ClusterError, match="denied"):
        submitted(job, overlay, said)
    assert kube.get("configmaps", name)


def test_what_is_left_of_a_refused_rayjob_is_said(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    kube.answer("POST", "rayjobs", 403, {"message": "forbidden"})
    kube.answer("DELETE", "configmaps", 403, {"message": "forbidden"})
    with pytest.raises(ClusterError, match="Not allowed to create rayjobs"):
        submitted(job, overlay, said)
    ((_, name),) = kube.objects
    assert f"ConfigMap {name} was created, and no RayJob that reads it: Not allowed to delete configmaps" in said[-1]


def test_who_may_give_no_owner_is_told_that_the_rayjob_is_there(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    """As the admission plugin OwnerReferencesPermissionEnforcement answers."""
    reason = "cannot set an ownerRef on a resource you can't delete: User may not delete"
    kube.answer("PATCH", "configmaps", 403, {"message": reason})
    result = submitted(job, overlay, said)
    assert result.state == "submitted"
    assert kube.get("rayjobs", result.name)
    told = (
        f"RayJob {result.name} is in the cluster, but its ConfigMap will stay when it is deleted: Not allowed to patch"
    )
    assert said[-1].startswith(told)
    assert reason in said[-1]


def test_a_server_that_goes_away_after_the_rayjob_was_made_says_that_it_is_there(
    kube: Kube, job: Job, overlay: str, said: Any
) -> None:
    for _ in range(20):
        kube.answer("PATCH", "configmaps", 503, {"message": "away"})
    with pytest.raises(
        ClusterError, match=r"RayJob .* is in the cluster; submitting again does what is left. .*could not"
    ):
        submitted(job, overlay, said)
    kube.answers.clear()
    assert submitted(job, overlay, said).state == "submitted already"


def test_another_image_is_ignored_and_said(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    name = submitted(job, overlay, said).name
    before = images(kube.get("rayjobs", name))
    assert submit(job, Options(overlay, image="registry/thaw:9"), said).state == "submitted already"
    assert said[-1] == f"{name} keeps the image that it was submitted with ({before}): registry/thaw:9 is ignored"
    assert images(kube.get("rayjobs", name)) == before
    submitted(job, overlay, said)
    assert said[-1] == f"{name} is submitted already"


def test_who_may_not_submit_is_told_so(kube: Kube, job: Job, overlay: str, said: Any) -> None:
    kube.answer("POST", "configmaps", 403, {"message": "forbidden"})
    with pytest.raises(ClusterError, match="Not allowed to create configmaps in namespace thaw: bind the role"):
        submitted(job, overlay, said)


def test_a_state_that_was_only_reserved_says_so(job: Job, said: Any, kube: Kube, overlay: str) -> None:
    run = str(name_run(job, said).run)
    submitted(job, overlay, said, new=True)
    found = read_state(open_store(job.store), run)
    assert found is not None
    assert (found.state.attempt, found.state.holder) == (0, None)
