"""On Ray, a run that is killed in every stage ends with the same bytes as one that nobody disturbs."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kills import Kill, Outcome, run_with_kills, strike, training_workers

from job.storage import open_store
from support.faults import faulty
from support.killed import JOB as EMBEDDED
from support.killed import Start, epochs, left_by_killed_attempts, reached, uploading
from support.prepared import prepare_run

pytestmark = pytest.mark.slow
JOB = f"{EMBEDDED}scaling: {{{{workers: 2}}}}\n"
SEED = 0


def schedule(seed: int) -> list[Kill]:
    """Where Ray's processes are at work; in the phases, at random epochs. tests/integration/test_kills.py has the other
    stages.
    """
    chance = random.Random(seed)
    head, fine_tune = epochs(chance), epochs(chance)
    return [
        Kill("extract", "worker", lambda scene: scene.said("cache: ")),
        Kill("extract", "machine", lambda scene: scene.features() > 0),
        Kill("head", "worker", reached("head", head[0])),
        Kill("head's checkpoint", "worker", uploading("head", head[2])),
        Kill("between the phases", "driver", lambda scene: scene.said("thawed")),
        Kill("fine-tune", "worker", reached("fine_tune", fine_tune[0])),
        Kill("fine-tune's checkpoint", "machine", uploading("fine_tune", fine_tune[2])),
        Kill("export", "driver", lambda scene: bool(scene.run() and list((scene.run() / "model").glob("*")))),
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_with_kills(prepare_run(folder, JOB), folder / "store")


def test_a_run_killed_on_ray_ends_with_the_same_bytes(undisturbed: Outcome, tmp_path: Path) -> None:
    kills = schedule(SEED)
    done = run_with_kills(prepare_run(tmp_path, JOB), tmp_path / "store", kills)
    assert done.struck == [f"{kill.name}: {kill.who}" for kill in kills]
    assert done.attempts == 1 + sum(kill.who != "worker" for kill in kills)
    assert done.weights == undisturbed.weights
    assert done.result["metrics"] == undisturbed.result["metrics"]
    assert left_by_killed_attempts(done) == []


def test_a_worker_that_stands_still_is_noticed_by_the_others(
    undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    attempt = start(prepare_run(tmp_path, JOB))
    attempt.until(lambda scene: scene.said("training on") and scene.reached("head", 5))
    os.kill(max(training_workers(attempt.pid)), signal.SIGSTOP)
    done = attempt.outcome()
    assert done.told.count("training on 2 workers") == 2
    assert done.weights == undisturbed.weights


def test_workers_that_make_no_step_show_where_they_are_and_are_replaced(
    undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    """What fine-tuning reads is a pipe for a while, which nobody writes to."""
    attempt = start([*prepare_run(tmp_path, JOB), "--set", "recovery.stall_timeout=30"])
    attempt.until(lambda scene: scene.said("training on"))
    part = next(
        path
        for path in (tmp_path / "store/features").glob("*/*.arrow")
        if json.loads((path.parent / "featurizer.json").read_text())["tap"] != "pooled"
    )
    part.rename(tmp_path / "kept")
    os.mkfifo(part)
    attempt.until(lambda scene: scene.said("made no step for 30 s and is ended; its stacks: "))
    (tmp_path / "kept").rename(part)
    done = attempt.outcome()
    (run,) = (tmp_path / "store/runs").iterdir()
    assert "read_part" in "".join(path.read_text() for path in (run / "stacks").iterdir())
    assert done.weights == undisturbed.weights


def test_workers_that_are_killed_as_they_start_are_replaced(undisturbed: Outcome, start: Start, tmp_path: Path) -> None:
    """Before they have said a word, one after the other."""
    attempt = start(prepare_run(tmp_path, JOB))
    killed: set[int] = set()
    while len(killed) < 4 and not attempt.scene.said("training on"):
        for worker in set(training_workers(attempt.pid)) - killed:
            time.sleep(0.3 * (len(killed) % 3))
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            killed.add(worker)
    assert len(killed) == 4
    assert attempt.outcome().weights == undisturbed.weights


def test_a_failure_that_repeats_ends_the_run_with_its_cause(start: Start, tmp_path: Path) -> None:
    """Workers that are killed again and again, before any checkpoint."""
    command = [*prepare_run(tmp_path, JOB), "--set", "checkpoint.every_steps=null"]
    attempt = start(command)
    for group in range(1, 4):
        attempt.until(lambda scene: sum("training on" in line for line in scene.lines) == group)  # noqa: B023
        strike("worker", attempt.pid)
    attempt.wait()
    assert attempt.status == 6, attempt.told
    assert "Training failed 3 times in a row after the start; the last time: worker" in attempt.told


def test_a_storage_with_faults_changes_nothing(undisturbed: Outcome, s3_server: str, tmp_path: Path) -> None:
    """5 % of all requests fail, 2 % of all bodies are cut short, some come late."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="faults")
    prepare_run(tmp_path, JOB)
    store = open_store("s3://faults")
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        store.upload(str(file.relative_to(tmp_path)), str(file))
    job = tmp_path / "job.yaml"
    job.write_text(job.read_text().replace(f"file://{tmp_path}", "s3://faults"))
    rates = {"unavailable": 0.02, "internal_error": 0.01, "slow_down": 0.01, "reset": 0.01, "truncated": 0.02}
    with faulty(s3_server, seed=1, pause=0.5, late=0.02, **rates) as proxy:
        command = [sys.executable, "-m", "job", "run", str(job), "--json"]
        command += ["--set", "checkpoint.every_steps=40"]  # each of them is a dozen requests
        done = run_with_kills(command, tmp_path, [], {"AWS_ENDPOINT_URL": proxy.url})
        assert min(proxy.counts[kind] for kind in (*rates, "late")) > 0, proxy.counts
    assert done.weights == undisturbed.weights
