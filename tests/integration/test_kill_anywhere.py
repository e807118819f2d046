"""A run that is killed in every stage ends with the same bytes as one that nobody disturbs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import faulty
from kills import Kill, Outcome, Scene, Watched, descendants, run_with_kills, strike, training_workers
from prepared import prepare_run

from job.storage import open_store

pytestmark = pytest.mark.slow
JOB = """
name: killed
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 40, learning_rate: 3e-3, patience: 40, optimizer: adamw}}
  fine_tune:
    unfreeze: {{from: conv_1}}
    epochs: 40
    learning_rate: 1e-3
    optimizer: adamw
    schedule: cosine
    allow_unconverged_head: true
augment: {{flip_horizontal: true, flip_vertical: true}}
train: {{batch_size: 16, views: 2, cache: "on"}}
scaling: {{workers: 2}}
checkpoint: {{every_steps: 4, every_minutes: null, keep: 2}}
recovery: {{max_failures: 20}}
"""
SEED = 0


def schedule(seed: int) -> list[Kill]:
    """All stages; in the phases, at random epochs."""
    chance = random.Random(seed)
    head = sorted(chance.sample(range(1, 36), 4))
    fine_tune = sorted(chance.sample(range(1, 36), 4))

    def reached(phase: str, epoch: int) -> Callable[[Scene], bool]:
        return lambda scene: scene.reached(phase, epoch)

    def uploading(phase: str, epoch: int) -> Callable[[Scene], bool]:
        return lambda scene: scene.said("training on") and scene.is_uploading() and scene.reached(phase, epoch)

    return [
        Kill("listing", "machine", lambda scene: scene.said("listing")),
        Kill("extract", "driver", lambda scene: scene.features() > 0),
        Kill("head", "worker", reached("head", head[0])),
        Kill("head", "driver", reached("head", head[1])),
        Kill("head's checkpoint", "machine", uploading("head", head[2])),
        Kill("head's checkpoint", "worker", uploading("head", head[3])),
        Kill("between the phases", "driver", lambda scene: scene.said("thawed")),
        Kill("fine-tune", "worker", reached("fine_tune", fine_tune[0])),
        Kill("fine-tune", "machine", reached("fine_tune", fine_tune[1])),
        Kill("fine-tune's checkpoint", "driver", uploading("fine_tune", fine_tune[2])),
        Kill("fine-tune's checkpoint", "worker", uploading("fine_tune", fine_tune[3])),
        Kill("evaluation", "driver", lambda scene: bool(scene.run() and (scene.run() / "training.json").exists())),
        Kill("export", "machine", lambda scene: bool(scene.run() and list((scene.run() / "model").glob("*")))),
    ]


def prepared(folder: Path) -> list[str]:
    """The command of a run on a folder of its own."""
    return prepare_run(folder, JOB)


def weights(done: Outcome) -> str:
    path = done.result["model"].removeprefix("file://") + "weights.safetensors"
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run_with_kills(prepared(folder), folder / "store", [])


def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(undisturbed: Outcome, tmp_path: Path) -> None:
    kills = schedule(SEED)
    done = run_with_kills(prepared(tmp_path), tmp_path / "store", kills)
    assert done.struck == [f"{kill.name}: {kill.who}" for kill in kills]
    assert done.attempts == 1 + sum(kill.who != "worker" for kill in kills)
    assert weights(done) == weights(undisturbed)
    assert done.result["metrics"] == undisturbed.result["metrics"]


def test_a_finished_run_is_reported_at_once(undisturbed: Outcome) -> None:
    """Without TensorFlow and Ray, whose imports alone take longer than a second."""
    job = Path(undisturbed.result["run"].removeprefix("file://")).parents[2] / "job.yaml"
    watched = "import sys; sys.argv[0] = 'thaw'; from job.cli import main\ntry: main()\n"
    watched += "finally: print(sorted({'tensorflow', 'keras', 'ray'} & set(sys.modules)), file=sys.stderr)"
    command = [sys.executable, "-c", watched, "run", str(job), "--json"]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "this run is finished" in again.stderr
    assert again.stderr.splitlines()[-1] == "[]"


class Attempt:
    """A run that is under way in a process of its own."""

    def __init__(self, command: list[str], store: Path) -> None:
        self.scene = Scene(store)
        self.process = Watched(command, self.scene, None)

    def until(self, moment: Callable[[Scene], bool]) -> None:
        begun = time.monotonic()
        while not moment(self.scene):
            assert self.process.status is None, "".join(self.process.told)
            assert time.monotonic() - begun < 300, "".join(self.process.told)
            time.sleep(0.002)

    def end(self) -> tuple[int | None, str]:
        """Exit status and standard error."""
        self.process.wait()
        return self.process.status, "".join(self.process.told)

    def signal(self, number: int) -> None:
        """To the process and to all that it has started."""
        for process in [self.process.pid, *descendants(self.process.pid)]:
            os.kill(process, number)


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Callable[[list[str]], Attempt]]:
    started: list[Attempt] = []

    def start(command: list[str]) -> Attempt:
        started.append(Attempt(command, tmp_path / "store"))
        return started[-1]

    yield start
    for attempt in started:
        if attempt.process.status is None:
            strike("machine", attempt.process.pid)


Start = Callable[[list[str]], Attempt]


def finished(command: list[str], folder: Path) -> Outcome:
    return run_with_kills(command, folder / "store", [])


def test_sigterm_keeps_the_step_and_the_next_attempt_goes_on_from_it(
    undisturbed: Outcome, attempts: Start, tmp_path: Path
) -> None:
    command = [*prepared(tmp_path), "--set", "checkpoint.every_steps=null"]
    attempt = attempts(command)
    attempt.until(lambda scene: scene.said("head epoch   3"))
    os.kill(attempt.process.pid, signal.SIGTERM)
    status, told = attempt.end()
    assert status == 143, told
    assert "thaw: Stopped by SIGTERM: a checkpoint of this step is kept" in told
    (entry,) = attempt.scene.checkpoints()
    assert (entry["phase"], entry["epoch"] >= 3) == ("head", True)
    done = finished(command, tmp_path)
    assert f"resumed from head epoch {entry['epoch']}" in "".join(done.told)
    assert weights(done) == weights(undisturbed)


def test_of_two_attempts_one_works_and_the_other_says_so(undisturbed: Outcome, attempts: Start, tmp_path: Path) -> None:
    command = prepared(tmp_path)
    first = attempts(command)
    time.sleep(2)
    second = attempts(command)
    ends = sorted([first.end(), second.end()], key=lambda end: end[0] or 0)
    assert [status for status, _ in ends] == [0, 4], ends
    assert "is at work on this run: wait for it, or end it." in ends[1][1]
    (run,) = (tmp_path / "store/runs").iterdir()
    assert hashlib.sha256((run / "model/weights.safetensors").read_bytes()).hexdigest() == weights(undisturbed)
    assert {entry["name"].split("-")[-2] for entry in first.scene.checkpoints()} == {"1"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {e["name"] for e in first.scene.checkpoints()}


def test_an_attempt_that_wakes_up_after_it_was_replaced_writes_nothing(
    undisturbed: Outcome, attempts: Start, tmp_path: Path
) -> None:
    command = prepared(tmp_path)
    zombie = attempts(command)
    zombie.until(lambda scene: scene.reached("head", 5))
    zombie.signal(signal.SIGSTOP)
    done = finished(command, tmp_path)
    assert "may be at work: watching it" in "".join(done.told)
    assert weights(done) == weights(undisturbed)
    before = written(tmp_path / "store")
    zombie.signal(signal.SIGCONT)
    status, told = zombie.end()
    assert status == 4, told
    assert "writes nothing more" in told
    assert written(tmp_path / "store") == before


def written(store: Path) -> dict[str, int]:
    """When each file was written last."""
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


def test_a_worker_that_stands_still_is_noticed_by_the_others(
    undisturbed: Outcome, attempts: Start, tmp_path: Path
) -> None:
    attempt = attempts(prepare_run(tmp_path, JOB))
    attempt.until(lambda scene: scene.said("training on") and scene.reached("head", 5))
    os.kill(max(training_workers(attempt.process.pid)), signal.SIGSTOP)
    status, told = attempt.end()
    assert status == 0, told
    assert told.count("training on 2 workers") == 2
    (run,) = (tmp_path / "store/runs").iterdir()
    assert hashlib.sha256((run / "model/weights.safetensors").read_bytes()).hexdigest() == weights(undisturbed)


def test_workers_that_make_no_step_show_where_they_are_and_are_replaced(
    undisturbed: Outcome, attempts: Start, tmp_path: Path
) -> None:
    """What fine-tuning reads is a pipe for a while, which nobody writes to."""
    attempt = attempts([*prepare_run(tmp_path, JOB), "--set", "recovery.stall_timeout=30"])
    attempt.until(lambda scene: scene.said("training on"))
    part = next(
        path
        for path in (tmp_path / "store/features").glob("*/*.parquet")
        if json.loads((path.parent / "featurizer.json").read_text())["tap"] != "pooled"
    )
    part.rename(tmp_path / "kept")
    os.mkfifo(part)
    attempt.until(lambda scene: scene.said("made no step for 30 s and is ended; its stacks: "))
    (tmp_path / "kept").rename(part)
    status, told = attempt.end()
    assert status == 0, told
    (run,) = (tmp_path / "store/runs").iterdir()
    assert "read_part" in "".join(path.read_text() for path in (run / "stacks").iterdir())
    assert hashlib.sha256((run / "model/weights.safetensors").read_bytes()).hexdigest() == weights(undisturbed)


def test_a_failure_that_repeats_ends_the_run_with_its_cause(attempts: Start, tmp_path: Path) -> None:
    """Workers that are killed again and again, before any checkpoint."""
    command = [*prepared(tmp_path), "--set", "checkpoint.every_steps=null"]
    attempt = attempts(command)
    for group in range(1, 4):
        attempt.until(lambda scene: sum("training on" in line for line in scene.lines) == group)  # noqa: B023
        strike("worker", attempt.process.pid)
    status, told = attempt.end()
    assert status == 6, told
    assert "Training failed 3 times in a row after the start; the last time: worker" in told


def test_a_storage_with_faults_changes_nothing(undisturbed: Outcome, s3_server: str, tmp_path: Path) -> None:
    """5 % of all requests fail, 2 % of all bodies are cut short, some come late."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="faults")
    prepared(tmp_path)
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
    content = open_store(done.result["model"]).read("weights.safetensors")
    assert hashlib.sha256(content).hexdigest() == weights(undisturbed)
