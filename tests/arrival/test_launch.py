"""What is decided on a snapshot, with a cluster on loopback and a store on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from job.arrival import launch as launching
from job.arrival.launch import launch
from job.arrival.promotions import Promotions
from job.arrival.targets import Target
from job.cli import thaw
from job.config import Job
from job.config.jobfile import dump_job
from job.deploy.naming import name_run
from job.errors import ClusterError, JobError
from job.model.resolved import record_key, weights_request
from job.run.outcome import Decision, PromotionDecision
from job.storage import open_store
from job.storage.documents import write_document
from support.images import picture
from support.kube import Kube
from support.results import write_result
from support.watching import Watching


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "LOOK", 0.01)


def more_data(target: Target, number: int = 100) -> None:
    open_store(target.job.data.source).write(f"red/new {number}.png", picture(number, "red"))


def rayjobs(kube: Kube) -> list[str]:
    return [name for kind, name in kube.objects if kind == "rayjobs"]


def end(kube: Kube, name: str, state: str = "Complete") -> None:
    kube.edit("rayjobs", name, {"status": {"jobDeploymentStatus": state}})


def decided(monkeypatch: pytest.MonkeyPatch, decision: Decision) -> None:
    monkeypatch.setattr(launching, "decide", lambda *_, **__: decision)


def test_a_cluster_without_kuberay_is_found_before_anything_is_listed(target: Target, kube: Kube, said: Any) -> None:
    before = list(open_store(target.job.store).list(""))
    kube.has_kuberay = False
    with pytest.raises(ClusterError, match="KubeRay is not installed"):
        launch(target, said)
    assert (said, list(open_store(target.job.store).list(""))) == ([], before)
    assert rayjobs(kube) == []


def test_hints_name_the_watchers_role(target: Target, kube: Kube, said: Any) -> None:
    kube.answer("POST", "rayjobs", 403, {"message": "forbidden"})
    with pytest.raises(
        ClusterError, match=r"create rayjobs in namespace thaw: bind the role thaw-watch \(k8s/components"
    ):
        launch(target, said)
    assert kube.objects == {}


def test_the_rayjob_is_named_after_the_run_and_says_when_its_data_arrived(
    target: Target, kube: Kube, said: Any
) -> None:
    done = launch(target, said, first_event=1_700_000_000.25)
    assert (done.outcome, done.examples) == ("created", 40)
    assert rayjobs(kube) == [done.name] == [done.run]
    metadata = kube.get("rayjobs", str(done.name))["metadata"]
    assert metadata["annotations"]["thaw/first-event"] == "2023-11-14T22:13:20.250+00:00"
    assert metadata["labels"]["thaw/job"] == "cells"


def test_the_same_data_is_one_rayjob_whatever_became_of_it(target: Target, kube: Kube, said: Any) -> None:
    first = launch(target, said)
    for state in ("", "Running", "Failed", "Complete"):
        end(kube, str(first.name), state)
        again = launch(target, said)
        assert (again.outcome, again.name) == ("exists", first.name)
    assert len(rayjobs(kube)) == 1


def test_what_was_cut_short_is_mended(target: Target, kube: Kube, said: Any) -> None:
    name = str(launch(target, said).name)
    kube.edit("configmaps", name, {"metadata": {"ownerReferences": None}})
    launch(target, said)
    assert kube.get("configmaps", name)["metadata"]["ownerReferences"][0]["name"] == name


def test_a_finished_run_is_not_repeated(target: Target, kube: Kube, said: Any) -> None:
    run = str(name_run(target.job, said).run)
    write_result(open_store(target.job.store), run)
    done = launch(replace(target, job=target.job.model_copy(update={"promote": None})), said)
    assert (done.outcome, done.run, done.name) == ("finished", run, None)
    assert rayjobs(kube) == []


def test_other_data_waits_for_the_active_run(target: Target, kube: Kube, said: Any) -> None:
    first = str(launch(target, said).name)
    more_data(target)
    for state in ("", "Initializing", "Running", "Suspended", "Retrying"):
        end(kube, first, state)
        done = launch(target, said)
        assert (done.outcome, done.name) == ("deferred", first)
    end(kube, first)
    done = launch(target, said)
    assert (done.outcome, done.examples) == ("created", 41)
    assert rayjobs(kube) == [first, done.name]


def test_runs_of_other_jobs_are_not_waited_for(target: Target, kube: Kube, said: Any) -> None:
    kube.put("rayjobs", {"metadata": {"name": "other", "labels": {"thaw/job": "other"}}})
    assert launch(target, said).outcome == "created"


def test_other_data_replaces_the_active_run_once_that_is_gone(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacing = replace(target, concurrency="replace")
    first = str(launch(replacing, said).name)
    assert launch(replacing, said).outcome == "exists", "it does not replace itself"
    more_data(target)
    kube.answer("DELETE", "rayjobs", 200)  # it takes its time: its pods keep a checkpoint
    looks: list[str] = []

    def look(method: str, plural: str) -> None:
        if (method, plural) == ("GET", "rayjobs") and ("DELETE", "rayjobs") in kube.requests:
            looks.append(method)
            assert len(rayjobs(kube)) == 1
            if len(looks) == 3:
                kube.remove("rayjobs", first)

    kube.on_request = look
    done = launch(replacing, said)
    assert done.outcome == "created"
    assert rayjobs(kube) == [done.name]
    assert done.name != first


def test_what_is_not_worth_it_is_recorded(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(monkeypatch, Decision(False, "3 new examples of 40", 3, current="cells-1"))
    done = launch(target, said)
    assert (done.outcome, done.reason, done.new_examples) == ("not_worth_it", "3 new examples of 40", 3)
    assert rayjobs(kube) == []
    record = json.loads(open_store(target.job.store).read(f"runs/{done.run}/decision.json"))
    assert (record["train"], record["reason"]) == (False, "3 new examples of 40")


def test_too_few_new_examples_are_recorded_and_more_of_them_are_enough(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(target, min_new=41)
    done = launch(few, said)
    assert (done.outcome, done.reason) == ("too_few", "40 new examples, and min_new is 41")
    assert open_store(target.job.store).stat(f"runs/{done.run}/decision.json")
    more_data(target)
    assert launch(few, said).outcome == "created"


def test_what_only_features_can_tell_is_left_to_the_run_which_is_asked_once(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(monkeypatch, Decision(None, "1 new example", 1, current="cells-1"))
    done = launch(target, said)
    assert done.outcome == "created"
    kube.remove("rayjobs", str(done.name))
    record = {"train": False, "reason": "as before", "new_examples": 1, "new_classes": (), "p_value": 0.5}
    store = open_store(target.job.store)
    store.write(f"runs/{done.run}/decision.json", json.dumps({**record, "current": "cells-1"}).encode())
    assert launch(target, said).outcome == "not_worth_it"
    store.write(f"runs/{done.run}/decision.json", json.dumps({**record, "current": "cells-0"}).encode())
    assert launch(target, said).outcome == "created", "another model was in use then"


def test_a_rayjob_that_is_being_deleted_is_an_error_that_passes(target: Target, kube: Kube, said: Any) -> None:
    name = str(launch(target, said).name)
    kube.edit("rayjobs", name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    with pytest.raises(ClusterError, match="just being deleted"):
        launch(target, said)


def test_weights_that_the_store_does_not_know_are_prepared_in_another_process(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = target.job, open_store(target.job.store)
    key = record_key(weights_request(job.model, job.train.seed))
    store.delete(key)
    asked: list[tuple[str, Job]] = []

    def run(verb: str, job: Job) -> str:
        asked.append((verb, job))
        store.write(key, json.dumps({"weights_sha256": "0" * 64}).encode())
        return ""

    monkeypatch.setattr(launching, "run_thaw", run)
    assert launch(target, said).outcome == "created"
    assert launch(target, said).outcome == "exists"
    assert asked == [("prepare", job)]


def test_weights_that_cannot_be_prepared_say_why(
    target: Target, kube: Kube, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = target.job
    open_store(job.store).delete(record_key(weights_request(job.model, job.train.seed)))

    def run(verb: str, job: Job) -> str:
        raise JobError("no such backbone")

    monkeypatch.setattr(launching, "run_thaw", run)
    with pytest.raises(JobError, match=r"^no such backbone$"):
        launch(target, said)


def test_the_verb_prepares_what_names_a_run(job_file: str, target: Target) -> None:
    """A network without weights needs no download; it is a process of its own, with TensorFlow."""
    import subprocess
    import sys

    small = ("model.weights=none", "model.backbone=mobilenet", "model.image_size=32")
    words = [word for setting in small for word in ("--set", setting)]
    done = subprocess.run([sys.executable, "-m", "job", "prepare", job_file, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    store = open_store(target.job.store)
    assert len(list(store.list("weights/resolved/"))) == 2


@pytest.fixture
def job_file(target: Target, tmp_path: Path) -> str:
    (tmp_path / "job.yaml").write_text(dump_job(target.job))
    return str(tmp_path / "job.yaml")


def test_trigger_decides_once(kube: Kube, target: Target, job_file: str, overlay: str) -> None:
    words = ["trigger", job_file, "--overlay", overlay]
    first = CliRunner().invoke(thaw, [*words, "--json"])
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert (told["outcome"], told["namespace"]) == ("created", "thaw")
    assert told["name"] in first.stderr
    again = CliRunner().invoke(thaw, words)
    assert again.stdout == f"RayJob {told['name']} has this data already: it is New (namespace thaw).\n"
    more_data(target)
    waits = CliRunner().invoke(thaw, words)
    assert waits.stdout.startswith(f"Nothing was created: {told['name']} is active: trigger again")
    replaced = CliRunner().invoke(thaw, [*words, "--replace"])
    assert " was created" in replaced.stdout
    assert len(rayjobs(kube)) == 1


def test_promotions_are_timed_from_the_first_event(target: Target, kube: Kube, said: Any) -> None:
    watching = Watching([{"name": "cells"}])
    promotions = Promotions(target, watching.metrics, watching.watcher._log)
    assert promotions.pending
    promotions.look()
    assert not promotions.pending
    done = launch(target, said, first_event=1_700_000_000)
    promotions.created(str(done.name))
    promotions.look()
    assert promotions.pending
    store = open_store(target.job.store)
    decision = PromotionDecision(True, "better", str(done.run), None, at="2023-11-14T22:23:20+00:00")
    write_document(store, f"runs/{done.run}/promotion.json", decision)
    end(kube, str(done.name))
    promotions.look()
    (line,) = watching.told("ended")
    assert (line["promoted"], line["seconds_since_first_event"]) == (True, 600)
    assert watching.counted("first_event_to_promotion_seconds_sum", job="cells") == 600
    promotions.look()
    assert len(watching.told("ended")) == 1


NOT_PROMOTED = b'{"promoted": false, "reason": "worse", "run": "a", "against": "b"}'
AT_NO_TIME = b'{"promoted": true, "reason": "better", "run": "a", "against": "b", "at": "soon"}'


@pytest.mark.parametrize("content", [None, b"[]", NOT_PROMOTED, AT_NO_TIME])
def test_runs_without_a_promotion_are_told_of_without_a_time(
    content: bytes | None, target: Target, kube: Kube, said: Any
) -> None:
    watching = Watching([{"name": "cells"}])
    promotions = Promotions(target, watching.metrics, watching.watcher._log)
    done = launch(target, said, first_event=1_700_000_000)
    promotions.look()
    if content is not None:
        open_store(target.job.store).write(f"runs/{done.run}/promotion.json", content)
    end(kube, str(done.name), "Failed")
    promotions.look()
    (line,) = watching.told("ended")
    assert len(watching.told("warning")) == (content == b"[]"), "what is no decision is told of"
    assert "seconds_since_first_event" not in line
    assert watching.counted("first_event_to_promotion_seconds_count", job="cells") == 0


def test_what_ended_before_it_looked_was_counted_by_the_process_before(target: Target, kube: Kube, said: Any) -> None:
    watching = Watching([{"name": "cells"}])
    done = launch(target, said, first_event=1_700_000_000)
    end(kube, str(done.name))
    promotions = Promotions(target, watching.metrics, watching.watcher._log)
    promotions.look()
    assert watching.told("ended") == []
