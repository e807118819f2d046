"""Where a run stands, from its store alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.errors import JobError
from job.run import lease
from job.run.lease import cancel, take
from job.run.run import open_run
from job.run.state import CheckpointEntry, create_state, read_state
from job.storage import Store, open_store
from job.storage.documents import plain
from job.telemetry.run_progress import RunProgress
from job.telemetry.status import RunStatus, describe_run, is_renewed, open_runs, run_status
from support.imported import called_in_new_process
from support.results import write_result

CHECKPOINT = CheckpointEntry("x", "", 0, "fine_tune", 3, 7, finished=False)


@pytest.fixture
def held(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    with take(store, "run", lambda *_, **__: None, lost=lambda error: None) as mine:
        mine.state.change(lambda state: replace(state, checkpoints=(CHECKPOINT,)))
        yield


def test_a_run_is_opened_by_uri_or_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "store/runs/run").mkdir(parents=True)
    for text in (f"{store.uri}runs/run/", f"{store.uri}runs/run", str(tmp_path / "store/runs/run")):
        opened, run = open_run(text)
        assert (opened.uri, run) == (store.uri, "run")
    for text in ("s3://bucket/thaw/", "s3://bucket/runs/", "s3://bucket/runs/a/model/"):
        with pytest.raises(JobError, match=r"no run's URI: it ends in runs/<id>/"):
            open_run(text)


def test_runs_are_those_of_a_store_or_one_alone(store: Store, tmp_path: Path) -> None:
    job = f"{{name: a, data: {{source: 'file:///none/'}}, store: '{store.uri}'}}"
    for file in ("job.yaml", "runs/job.yaml", "runs/jobs/job.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(job)
    write_result(store, "a")
    opened = {
        None: (store.uri, *(f"{tmp_path}/{name}" for name in ("job.yaml", "runs/job.yaml", "runs/jobs"))),
        "a": (f"{store.uri}runs/a/", f"{tmp_path}/store/runs/a"),
    }
    for run, texts in opened.items():
        for text in texts:
            assert (open_runs(text)[0].uri, open_runs(text)[1]) == (store.uri, run), text
    inner = open_store(f"file://{tmp_path}/store/runs/of/mine/")
    inner.write("x", b"")
    assert (open_runs(inner.uri)[0].uri, open_runs(inner.uri)[1]) == (inner.uri, None)
    for text in (f"{store.uri}runs/typo/", f"{tmp_path}/store/runs/typo"):
        with pytest.raises(JobError, match=f"{store.uri}runs/typo/: there is no such run"):
            open_runs(text)


def test_a_run_at_work_has_its_holder_and_its_last_checkpoint(store: Store, held: None) -> None:
    store.write("runs/run/plan.json", json.dumps({"features": 8, "reason": "stored at block4"}).encode())
    status = run_status(store, "run", watch=True)
    assert (status.state, status.attempt, status.alive) == ("working", 1, True)
    assert status.checkpoint == {"phase": "fine_tune", "epoch": 3, "step": 7, "finished": False}
    lines = describe_run(status)
    assert lines[0] == f"run         {store.uri}runs/run/"
    assert lines[2].startswith("attempt     1 (process ")
    assert lines[3:] == [
        "alive       it has just renewed its lease",
        "checkpoint  fine-tune epoch 3, step 7",
        "cache       stored at block4",
    ]


def test_how_far_the_attempt_is_that_works_on_it_or_was_the_last(store: Store, held: None) -> None:
    standing = RunProgress("head", 41.6, epoch=3, epochs=60, step=7, loss=0.5, accuracy=0.875, rate=320.4, left=126.0)
    document = {"attempt": 1, **asdict(standing)}
    store.write("runs/run/standing.json", json.dumps(document).encode())
    status = run_status(store, "run", watch=False)
    assert status.standing == standing
    told = "progress    42 %, head epoch 3 of 60, loss 0.5000, accuracy 0.8750, 320 a second, 0:02:06 left"
    assert told in describe_run(status)
    store.write("runs/run/standing.json", json.dumps({**document, "attempt": 2}).encode())
    assert run_status(store, "run", watch=False).standing is None


def test_watched_it_is_told_what_changes_until_it_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch, held: None
) -> None:
    monkeypatch.setattr("job.deploy.rayjob_status.INTERVAL", 0.0)
    percent = iter([40.0, 41.0])

    def look(store: Store, run: str, watch: bool) -> RunStatus:
        assert watch
        if (now := next(percent, None)) is None:
            return replace(run_status(store, run, False), state="ended", standing=None)
        return replace(run_status(store, run, False), standing=RunProgress("head", now))

    monkeypatch.setattr("job.deploy.rayjob_status.run_status", look)
    done = CliRunner().invoke(thaw, ["status", f"{store.uri}runs/run/", "--watch"])
    assert done.exit_code == 0
    assert [line for line in done.stdout.splitlines() if line.startswith(("state", "progress"))] == [
        "state       working",
        "progress    40 %, head",
        "progress    41 %, head",
        "state       ended",
    ]


def test_whether_it_is_alive_is_not_watched_unless_asked_for(store: Store, held: None) -> None:
    assert run_status(store, "run", watch=False).alive is None


def test_a_holder_that_does_not_renew_gives_no_sign_of_life(store: Store, held: None) -> None:
    found = read_state(store, "run")
    assert found is not None
    assert is_renewed(store, "run", replace(found.state, renewals=-1), sleep=lambda _: None)
    lease_before, slept = lease.RENEWAL, []
    lease.RENEWAL = 1e9
    create_state(store, "other", found.state)
    assert not is_renewed(store, "other", found.state, sleep=slept.append, patience=0.05)
    lease.RENEWAL = lease_before
    assert slept
    status = replace(run_status(store, "run", watch=False), alive=False)
    assert "alive       no sign of life in 15 s of watching: running again takes it over" in describe_run(status)


def test_a_run_that_ended_early_and_one_that_is_finished(store: Store) -> None:
    with take(store, "run", lambda *_, **__: None, lost=lambda error: None):
        pass
    assert run_status(store, "run", watch=True).state == "ended"
    result = write_result(store, "run", model="s3://m")
    assert run_status(store, "run", watch=True).state == "finished"
    done = CliRunner().invoke(thaw, ["status", f"{store.uri}runs/run/"])
    assert done.exit_code == 0
    assert "model       s3://m" in done.stdout
    assert "0.9000" in done.stdout
    done = CliRunner().invoke(thaw, ["status", f"{store.uri}runs/run/", "--json"])
    assert json.loads(done.stdout)["result"] == plain(result)


def test_an_unknown_run_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no such run"):
        run_status(store, "nobody", watch=True)


def test_a_cancelled_run_says_who_wanted_that(store: Store, held: None) -> None:
    cancel(store, "run")
    assert any(line.startswith("cancelled   by ") for line in describe_run(run_status(store, "run", watch=False)))


def test_both_verbs_work_without_tensorflow_ray_and_kubernetes(store: Store, held: None) -> None:
    uri = f"{store.uri}runs/run/"
    status, cancelled = called_in_new_process(["status", uri, "--json"], ["cancel", uri])
    assert (status.ended, status.imported) == ("0", set())
    assert (cancelled.ended, cancelled.imported) == ("0", set())
