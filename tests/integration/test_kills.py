"""A run that is killed in every stage, stopped, or superseded ends with the same bytes as one that nobody disturbs.

Embedded, what is killed is the process of `thaw run`, and the next one goes on. What holds on Ray as well is asked of
both.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kills import Kill, Outcome, Scene, Watched, run_with_kills

from job.run.drain import drain
from job.run.processes import command_line, descendants
from support.forked import THAW, Forked
from support.killed import BLOCKS, JOB, Start, epochs, left_by_killed_attempts, reached, stop, uploading, written
from support.prepared import prepare_run

ON_RAY = pytest.param(f"{JOB}scaling: {{{{workers: 2}}}}\n", id="on Ray", marks=pytest.mark.slow)
KINDS = [pytest.param(JOB, id="embedded"), ON_RAY]
SLOW_KINDS = [pytest.param(JOB, id="embedded", marks=pytest.mark.slow), ON_RAY]
FOUR = ("between features", "head's checkpoint", "fine-tune", "export")
WATCHED = """
import sys
sys.argv[0] = "thaw"
from job.cli import main
try:
    main()
finally:
    print(sorted({"tensorflow", "keras", "ray"} & set(sys.modules)), file=sys.stderr)
"""
"""`thaw`, which tells at its end what it has imported."""


@dataclass(frozen=True)
class Undisturbed:
    outcome: Outcome
    started: list[str]
    """The programs of processes that it had started, but for `uname`, which h5py asks while it is imported."""


@pytest.fixture(scope="module")
def undisturbed_jobs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Undisturbed]:
    """What each job ends with."""

    @cache
    def run(job: str) -> Undisturbed:
        folder = tmp_path_factory.mktemp("undisturbed")
        command = [sys.executable, "-c", WATCHED, *prepare_run(folder, job)[3:]]
        looks, programs = Counter[int](), dict[int, str]()
        with Watched(command, Scene(folder / "store")) as process:
            while process.status is None:
                for child in descendants(process.pid):
                    looks[child] += 1
                    programs[child] = command_line(child)[0]
                time.sleep(0.02)
            # Seen once, it may be `uname` before it is: a process that is forked has its parent's program at first.
            lasting = [program for child, program in programs.items() if looks[child] > 1 and program != "uname"]
            return Undisturbed(process.outcome(), lasting)

    return run


@pytest.fixture
def job() -> str:
    """Embedded, where a test has no other kinds."""
    return JOB


@pytest.fixture(autouse=True)
def forked(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt of an embedded run has TensorFlow's import behind it."""
    as_typed = Watched._start

    def begin(command: Sequence[str], environment: Mapping[str, str]) -> Any:
        start = Forked if list(command[: len(THAW)]) == THAW else as_typed
        return start(command, environment)

    if job in (JOB, BLOCKS):
        monkeypatch.setattr(Watched, "_start", staticmethod(begin))


@pytest.fixture
def undisturbed(job: str, undisturbed_jobs: Callable[[str], Undisturbed]) -> Outcome:
    return undisturbed_jobs(job).outcome


def schedule(seed: int) -> list[Kill]:
    """All stages; in the phases, at random epochs."""
    chance = random.Random(seed)
    head, fine_tune = epochs(chance), epochs(chance)
    moments = {
        "listing": lambda scene: scene.said("listing"),
        "preparing": lambda scene: scene.said("preparing"),
        "before the first feature": lambda scene: scene.said("computing the features"),
        "between features": lambda scene: scene.features() > 0,
        "before the first step": lambda scene: scene.said("training on"),
        "head": reached("head", head[0]),
        "head's checkpoint": uploading("head", head[2]),
        "between the phases": lambda scene: scene.said("thawed"),
        "fine-tune": reached("fine_tune", fine_tune[0]),
        "fine-tune's checkpoint": uploading("fine_tune", fine_tune[2]),
        "evaluation": lambda scene: bool(scene.run() and (scene.run() / "training.json").exists()),
        "export": lambda scene: bool(scene.run() and list((scene.run() / "model").glob("*"))),
    }
    return [Kill(name, "driver", when) for name, when in moments.items()]


@pytest.mark.parametrize("points", [FOUR, pytest.param(None, marks=pytest.mark.slow)], ids=["four", "all twelve"])
def test_a_run_killed_in_its_stages_ends_with_the_same_bytes(
    points: tuple[str, ...] | None, undisturbed: Outcome, tmp_path: Path
) -> None:
    kills = [kill for kill in schedule(0) if points is None or kill.name in points]
    assert len(kills) == (12 if points is None else 4)
    done = run_with_kills(prepare_run(tmp_path, JOB), tmp_path / "store", kills)
    assert done.struck == [f"{kill.name}: driver" for kill in kills]
    assert done.attempts == 1 + len(kills)
    assert "ended without a word: it was killed" in done.told
    assert done.weights == undisturbed.weights
    assert done.result["metrics"] == undisturbed.result["metrics"]
    assert (len(set(done.digests)), len(done.digests)) == (1, len(undisturbed.digests)), "each saw each example once"
    assert left_by_killed_attempts(done) == []


@pytest.mark.slow
@pytest.mark.parametrize("job", [pytest.param(BLOCKS, id="embedded")])
def test_a_run_killed_within_a_block_and_between_two_ends_with_the_same_bytes(
    job: str, undisturbed: Outcome, tmp_path: Path
) -> None:
    def between(scene: Scene) -> bool:
        return any((entry["epoch"], entry["finished"]) == (12, True) for entry in fine_tuning(scene))

    def fine_tuning(scene: Scene) -> list[dict[str, Any]]:
        return [entry for entry in scene.checkpoints() if entry["phase"] == "fine_tune"]

    moments = {"first": reached("fine_tune", 4), "between": between, "second": reached("fine_tune", 16)}
    kills = [Kill(name, "driver", when) for name, when in moments.items()]
    done = run_with_kills(prepare_run(tmp_path, job), tmp_path / "store", kills)
    assert done.struck == [f"{name}: driver" for name in moments]
    assert re.search(r"resumed from fine-tune epoch ([4-9]|1[01])\b", done.told)
    assert re.search(r"resumed from fine-tune epoch 12$", done.told, re.MULTILINE)
    assert re.search(r"resumed from fine-tune epoch (1[6-9]|2\d)\b", done.told)
    assert [block["pays"] for block in done.result["thawed"]] == [True, True]
    assert done.result["thawed"] == undisturbed.result["thawed"]
    assert done.weights == undisturbed.weights
    assert done.result["metrics"] == undisturbed.result["metrics"]
    assert (len(set(done.digests)), len(done.digests)) == (1, len(undisturbed.digests)), "each saw each example once"


def test_an_undisturbed_run_is_one_process_without_ray(undisturbed_jobs: Callable[[str], Undisturbed]) -> None:
    run = undisturbed_jobs(JOB)
    assert run.started == []
    assert run.outcome.told.splitlines()[-1] == "['keras', 'tensorflow']"


def test_a_finished_run_is_reported_at_once(undisturbed: Outcome) -> None:
    """Without TensorFlow and Ray, whose imports alone take longer than all else."""
    job = Path(undisturbed.result["run"].removeprefix("file://")).parents[2] / "job.yaml"
    command = [sys.executable, "-c", WATCHED, "run", str(job), "--json"]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "this run is finished" in again.stderr
    assert again.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("job", KINDS)
def test_sigterm_keeps_the_step_and_the_next_attempt_goes_on_from_it(
    job: str, undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    command = [*prepare_run(tmp_path, job), "--set", "checkpoint.every_steps=null"]
    attempt = start(command)
    attempt.until(lambda scene: scene.said("head epoch   3"))
    os.kill(attempt.pid, signal.SIGTERM)
    if job != JOB:  # as Ray does where a RayJob is deleted, whose pod is drained just after
        assert drain(60, attempt.pid), "as a pod does before it is ended: it waits"
    attempt.wait()
    assert attempt.status == 143, attempt.told
    assert re.search("thaw: Stopped by (SIGTERM|`thaw drain`): a checkpoint of this step is kept", attempt.told)
    (entry,) = attempt.scene.checkpoints()
    assert (entry["phase"], entry["epoch"] >= 3) == ("head", True)
    done = run_with_kills(command, tmp_path / "store")
    assert f"resumed from head epoch {entry['epoch']}" in done.told
    assert done.weights == undisturbed.weights


def test_a_cancelled_run_keeps_the_step(start: Start, tmp_path: Path) -> None:
    attempt = start([*prepare_run(tmp_path, JOB), "--set", "phases.head={epochs: 20000, patience: 20000}"])
    attempt.until(lambda scene: scene.said("head epoch   3"))
    run = f"file://{attempt.scene.run()}/"
    subprocess.run([sys.executable, "-m", "job", "cancel", run], check=True, capture_output=True)
    attempt.wait()
    assert attempt.status == 143, attempt.told
    assert "thaw: Stopped by `thaw cancel` of " in attempt.told
    assert attempt.scene.checkpoints()


@pytest.mark.parametrize("job", SLOW_KINDS)
def test_of_two_attempts_one_works_and_the_other_says_so(
    job: str, undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    command = prepare_run(tmp_path, job)
    first = start(command)
    first.until(lambda scene: scene.said("attempt 1"))
    second = start(command)
    for attempt in (first, second):
        attempt.wait()
    winner, loser = sorted([first, second], key=lambda attempt: attempt.status or 0)
    assert loser.status == 4, loser.told
    assert "is at work on this run: wait for it, or end it." in loser.told
    assert winner.outcome().weights == undisturbed.weights
    (run,) = (tmp_path / "store/runs").iterdir()
    assert {entry["name"].split("-")[-2] for entry in first.scene.checkpoints()} == {"1"}
    assert {path.name for path in (run / "checkpoints").iterdir()} == {e["name"] for e in first.scene.checkpoints()}


@pytest.mark.parametrize("job", SLOW_KINDS)
def test_an_attempt_that_wakes_up_after_it_was_replaced_writes_nothing(
    job: str, undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    command = prepare_run(tmp_path, job)
    zombie = start(command)
    zombie.until(reached("head", 5))
    stopped = [zombie.pid, *descendants(zombie.pid)]
    stop(stopped, tmp_path / "store")
    done = run_with_kills(command, tmp_path / "store")
    assert "may be at work: watching it" in done.told
    assert done.weights == undisturbed.weights
    before = written(tmp_path / "store")
    for process in stopped:
        os.kill(process, signal.SIGCONT)
    zombie.wait()
    assert zombie.status == 4, zombie.told
    assert "writes nothing more" in zombie.told
    assert written(tmp_path / "store") == before


def test_a_run_that_makes_no_step_shows_where_it_is_and_ends(
    undisturbed: Outcome, start: Start, tmp_path: Path
) -> None:
    """What fine-tuning reads is a pipe for a while, which nobody writes to."""
    command = [*prepare_run(tmp_path, JOB), "--set", "recovery.stall_timeout=10"]
    attempt = start(command)
    attempt.until(lambda scene: scene.said("training on"))
    part = next(
        path
        for path in (tmp_path / "store/features").glob("*/*.arrow")
        if json.loads((path.parent / "featurizer.json").read_text())["tap"] != "pooled"
    )
    part.rename(tmp_path / "kept")
    os.mkfifo(part)
    attempt.wait()
    part.unlink()
    (tmp_path / "kept").rename(part)
    assert attempt.status == 5, attempt.told
    assert "made no step for 10 s and is ended; its stacks: " in attempt.told
    assert "Running again goes on from the latest checkpoint." in attempt.told
    (run,) = (tmp_path / "store/runs").iterdir()
    assert "read_part" in "".join(path.read_text() for path in (run / "stacks").iterdir())
    assert run_with_kills(command, tmp_path / "store").weights == undisturbed.weights
