"""Following a RayJob through what happens to it, and to the connection."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job.deploy import follow as room
from job.deploy.api import Api
from job.deploy.follow import follow
from job.deploy.refusals import Unreachable
from job.errors import ClusterError
from support.following import NAME, Following
from support.kube import DROP, Kube


def status(kube: Kube, stage: str, annotations: dict[str, str] | None = None, **more: Any) -> None:
    change = {"metadata": {"annotations": annotations or {}}, "status": {"jobDeploymentStatus": stage, **more}}
    kube.edit("rayjobs", NAME, change)


def test_stages_and_progress_are_told_up_to_the_end(kube: Kube, following: Following) -> None:
    status(kube, "Initializing")
    following.hears("its cluster is made")
    figures = {"phase": "fine_tune", "percent": "73", "epoch": "3/10", "loss": "0.1234", "metric": "accuracy 0.91"}
    more = {"rate": "1200 examples/s", "left": "0:03:20"}
    status(kube, "Running", {f"thaw/{name}": text for name, text in {**figures, **more}.items()})
    line = following.hears(" 73 %")
    assert line == " 73 %  fine-tune  epoch 3/10  loss 0.1234  accuracy 0.91  1200 examples/s  0:03:20 left"
    status(kube, "Running", jobStatus="RUNNING")
    status(kube, "Complete", jobStatus="SUCCEEDED")
    assert following.ends() == 0
    assert following.said.count(line) == 1
    assert following.said[-1] == f"{NAME} is complete"


@pytest.mark.parametrize(
    ("annotations", "message", "code"),
    [
        ({"thaw/exit-code": "3", "thaw/error": "no labelled examples"}, "Job failed with exit code 1", 3),
        ({}, "Job entrypoint command failed with exit code 4, last available logs (truncated): secret", 4),
        ({"thaw/exit-code": "0"}, "the cluster was lost", 6),
        ({}, "", 6),
    ],
)
def test_it_ends_with_the_exit_code_of_the_job(
    annotations: dict[str, str], message: str, code: int, kube: Kube, following: Following
) -> None:
    status(kube, "Failed", annotations, message=message)
    assert following.ends() == code
    assert following.said[-1].startswith(f"{NAME} has failed (exit code {code}): ")
    assert annotations.get("thaw/error", message.partition(",")[0] or "no reason") in following.said[-1]
    assert "secret" not in following.said[-1]


def test_what_an_earlier_attempt_left_is_not_the_end_of_a_run_that_succeeded(kube: Kube, following: Following) -> None:
    status(kube, "Complete", {"thaw/exit-code": "4"}, jobStatus="SUCCEEDED")
    assert following.ends() == 0


def test_what_an_earlier_attempt_left_is_not_why_a_later_one_failed(kube: Kube, following: Following) -> None:
    """One whose head never came up has written nothing of its own."""
    left = {"thaw/exit-code": "3", "thaw/error": "no labelled examples", "thaw/cluster": "cells-a"}
    status(kube, "Failed", left, rayClusterName="cells-b", message="the head found no node")
    assert following.ends() == 6
    assert following.said[-1] == f"{NAME} has failed (exit code 6): the head found no node"


def test_what_the_last_attempt_left_is_why_it_failed(kube: Kube, following: Following) -> None:
    left = {"thaw/exit-code": "3", "thaw/error": "no labelled examples", "thaw/cluster": "cells-b"}
    status(kube, "Failed", left, rayClusterName="cells-b", message="exit code 1")
    assert following.ends() == 3
    assert following.said[-1] == f"{NAME} has failed (exit code 3): no labelled examples"


def test_attempts_that_failed_are_counted(kube: Kube, following: Following) -> None:
    status(kube, "Retrying", failed=1, message="the head was lost")
    following.hears("attempt 1 has failed (the head was lost): KubeRay makes a new cluster")
    following.hears("a new cluster is made, which goes on with the run")
    status(kube, "Running", failed=1, message="")
    status(kube, "Retrying", failed=2)
    following.hears("attempt 2 has failed: KubeRay")
    assert len([line for line in following.said if line.startswith("attempt 1")]) == 1


def test_an_empty_status_in_a_retry_is_no_new_rayjob(kube: Kube, following: Following) -> None:
    """KubeRay empties the status for the next attempt, but for the number of those that failed."""
    status(kube, "Running", message="Job is currently running.")
    following.hears("its cluster is up")
    left = {"thaw/exit-code": "4", "thaw/error": "the store is away", "thaw/cluster": "cells-a"}
    status(kube, "Retrying", left, failed=1, rayClusterName="cells-a", message="Job entrypoint failed")
    following.hears("attempt 1 has failed (the store is away): KubeRay makes a new cluster")
    status(kube, "", failed=1, rayClusterName=None, message="")
    status(kube, "Initializing", failed=1)
    following.hears("its cluster is made")
    assert following.said.count("KubeRay has not seen it yet") == 1
    assert following.said.count("a new cluster is made, which goes on with the run") == 1


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"kueue.x-k8s.io/queue-name": "thaw"}, "it waits in a queue (`kubectl -n thaw get workloads` says what for)"),
        ({}, "it is suspended (spec.suspend), until somebody resumes it"),
    ],
)
def test_what_is_suspended_waits_in_a_queue_or_for_somebody(
    labels: dict[str, str], told: str, kube: Kube, following: Following
) -> None:
    kube.edit("rayjobs", NAME, {"metadata": {"labels": labels, "namespace": "thaw"}})
    status(kube, "Suspended")
    following.hears(told)


def test_a_rayjob_that_is_deleted_ends_it(kube: Kube, following: Following) -> None:
    """Though a finalizer holds it for a while, in which its status is what it was."""
    status(kube, "Running")
    kube.edit("rayjobs", NAME, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    following.hears("is being deleted")
    said = len(following.said)
    status(kube, "Running", message="it is stopped")
    kube.remove("rayjobs", NAME)
    assert following.ends() == 6
    assert following.said[said:] == [f"{NAME} was deleted"]


def test_a_rayjob_that_was_deleted_while_nobody_listened_ends_it(kube: Kube, following: Following) -> None:
    with kube.changed:
        del kube.objects["rayjobs", NAME]
        kube.version += 1
        kube.expire()
    assert following.ends() == 6


def test_a_connection_that_breaks_loses_nothing(kube: Kube, following: Following) -> None:
    for epoch in range(1, 4):
        watches = kube.requests.count(("WATCH", "rayjobs"))
        kube.break_watches()
        status(kube, "Running", {"thaw/phase": "head", "thaw/epoch": f"{epoch}/9"})
        following.hears(f"epoch {epoch}/9")
        kube.wait_for(lambda before=watches: kube.requests.count(("WATCH", "rayjobs")) > before)
    assert kube.requests.count(("GET", "rayjobs")) == 1  # it goes on where it was


def test_a_watch_that_the_server_ends_is_begun_again(kube: Kube, following: Following) -> None:
    with kube.changed:
        kube.ending += 1
        kube.changed.notify_all()
    kube.wait_for(lambda: kube.requests.count(("WATCH", "rayjobs")) > 1)
    status(kube, "Initializing")
    following.hears("its cluster is made")
    assert kube.requests.count(("GET", "rayjobs")) == 1


def test_a_version_that_is_forgotten_is_listed_again(kube: Kube, following: Following) -> None:
    with kube.changed:
        status(kube, "Running", {"thaw/phase": "extract", "thaw/percent": "9"})
        kube.log.clear()  # nobody heard of it
        kube.expire()
    following.hears("  9 %  extract")
    assert kube.requests.count(("GET", "rayjobs")) == 2


def test_a_bookmark_moves_a_watch_on_and_tells_nothing(kube: Kube, following: Following) -> None:
    status(kube, "Initializing")
    following.hears("its cluster is made")
    with kube.changed:
        version = kube.version + 100
        line = f'{{"type": "BOOKMARK", "object": {{"metadata": {{"resourceVersion": "{version}"}}}}}}\n'
        kube.answer("WATCH", "rayjobs", 200, line)
        kube.version, kube.compacted = version, version
    kube.break_watches()
    kube.wait_for(lambda: kube.requests.count(("WATCH", "rayjobs")) > 2)
    status(kube, "Running")
    following.hears("its cluster is up")
    assert following.said.count("KubeRay has not seen it yet") == 1
    assert kube.requests.count(("GET", "rayjobs")) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"code": 410, "reason": "Expired", "message": "too old resource version"},
        {"code": 500, "message": "etcd: no leader"},
    ],
)
def test_an_error_in_the_middle_of_a_watch_is_a_reason_to_list_again(
    told: dict[str, Any], kube: Kube, following: Following
) -> None:
    kube.answer("WATCH", "rayjobs", 200, json.dumps({"type": "ERROR", "object": told}) + "\n")
    kube.break_watches()
    kube.wait_for(lambda: kube.requests.count(("GET", "rayjobs")) == 2)
    status(kube, "Initializing")
    following.hears("its cluster is made")


def test_a_server_that_is_away_for_a_while_is_said_once_and_waited_for(kube: Kube, following: Following) -> None:
    for _ in range(20):
        kube.answer("WATCH", "rayjobs", DROP)
    kube.break_watches()
    kube.wait_for(lambda: not kube.answers)
    status(kube, "Initializing")
    following.hears("its cluster is made")
    assert len([line for line in following.said if "could not watch rayjobs" in line]) <= 1


@pytest.mark.parametrize("refusals", [[401], [403], [401, 403, 503]])
def test_a_server_that_starts_again_is_followed_on(refusals: list[int], kube: Kube, following: Following) -> None:
    """It is gone, comes back without its roles, and then knows them; meanwhile the RayJob went on."""
    kube.stop()
    following.hears("Looking again.")
    for refusal in refusals:
        for plural in ("rayjobs", "pods"):
            for _ in range(8):
                kube.answer("WATCH", plural, refusal, {"message": "forbidden"})
    status(kube, "Running", {"thaw/phase": "head"})
    kube.start()
    following.hears("its cluster is up")
    status(kube, "Complete", jobStatus="SUCCEEDED")
    assert following.ends() == 0
    assert following.error is None


def test_who_may_not_watch_any_more_is_told_so_in_the_end(
    kube: Kube, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.deploy.patience.PATIENCE", 0.2)
    for _ in range(1000):
        kube.answer("WATCH", "rayjobs", 403, {"message": "forbidden"})
    kube.break_watches()
    following.ends()
    assert "Not allowed to watch rayjobs in namespace thaw: bind the role thaw-submit" in str(following.error)


def test_a_server_that_stays_away_ends_it(kube: Kube, following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.deploy.patience.PATIENCE", 0.0)
    for _ in range(20):
        kube.answer("WATCH", "rayjobs", 503, {"message": "away"})
    kube.break_watches()
    following.ends()
    assert isinstance(following.error, Unreachable)


def test_who_may_not_watch_is_told_so(kube: Kube, api: Api, said: Any) -> None:
    kube.put("rayjobs", {"metadata": {"name": NAME}})
    kube.answer("WATCH", "pods", 403, {"message": "forbidden"})
    with pytest.raises(ClusterError, match="Not allowed to watch pods in namespace thaw: bind the role thaw-submit"):
        follow(api, NAME, said)


def test_ctrl_c_stops_following_alone(kube: Kube, api: Api, said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kube.put("rayjobs", {"metadata": {"name": NAME}})

    class Interrupted(room.Queue):  # type: ignore[type-arg,misc]
        def get(self, *_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(room, "Queue", Interrupted)
    assert follow(api, NAME, said) == 130
    assert said[-1] == f"not followed any more; the job goes on: thaw status {NAME} -n thaw"
    assert kube.get("rayjobs", NAME)
