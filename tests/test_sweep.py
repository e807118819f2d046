from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from job.cli import thaw
from job.config import Job
from job.config.jobfile import parse_job
from job.errors import JobError
from job.executors.placement import with_workers
from job.run.outcome import RunOutcome
from job.storage.documents import plain
from job.sweep import Trial, sweep, trial_job
from job.telemetry.console import sweep_table
from support.results import run_result, summary_of_depth

JOB = """
name: cells
data: {source: 's3://bucket/cells/'}
store: s3://bucket/thaw/
phases: {head: {warm_start: true, epochs: 9}, fine_tune: {unfreeze: {from: x}, warm_epochs: 2, epochs: 4}}
train: {seed: 3}
retrain_when: {}
mlflow: {experiment: depths, registered_model: cells}
"""


def test_a_trial_differs_from_the_job_in_depth_and_seed_and_comes_into_use_nowhere() -> None:
    job = trial_job(parse_job(JOB), Trial(2, 5))
    assert (job.phases.fine_tune.unfreeze.blocks, job.phases.fine_tune.epochs, job.train.seed) == (2, 4, 5)
    assert (job.phases.head.warm_start, job.phases.fine_tune.warm_epochs, job.phases.head.epochs) == (False, None, 9)
    assert (job.promote, job.retrain_when) == (None, None)
    assert job.mlflow is not None
    assert (job.mlflow.experiment, job.mlflow.registered_model) == ("depths", None)
    alone = parse_job("{name: cells, data: {source: 's3://bucket/cells/'}, store: 's3://bucket/thaw/'}")
    assert trial_job(alone, Trial(0, 0)).phases.fine_tune is None


def test_without_fine_tuning_there_is_nothing_to_compare() -> None:
    with pytest.raises(JobError, match=r"phases\.fine_tune: null: a sweep compares"):
        sweep(parse_job(JOB, ["phases.fine_tune=null"]), [0, 1], 1, at_once=1, emit=lambda event: None)


class Runs:
    """In place of runs: which were made, where, and with how many workers the job said that they train."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.embedded: list[Job] = []
        self.processes: list[Job] = []
        for name, value in (
            ("run_observed", lambda job, *_, **__: self.embedded.append(job) or RunOutcome(RESULT)),
            ("run_thaw", lambda verb, job, *_, **__: self.processes.append(job) or json.dumps(plain(RESULT))),
            ("read_plan", lambda *_, **__: None),
            ("_row", lambda store, trial, result: {}),
            ("_summary", lambda blocks, rows: {}),
            ("_write", lambda *_, **__: "file:///sweep/"),
        ):
            monkeypatch.setattr(f"job.sweep.{name}", value)


RESULT = run_result("s3://bucket/thaw/runs/cells-1/")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    for name in ("RAY_ADDRESS", "THAW_RAYJOB", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
    return Runs(monkeypatch)


def blocks(job: Job) -> int:
    return job.phases.fine_tune.unfreeze.blocks if job.phases.fine_tune else 0


def test_trials_are_embedded_one_after_another_the_deepest_first(runs: Runs) -> None:
    told: list[str] = []
    sweep(parse_job(JOB), [0, 1, 2], 1, at_once=None, emit=lambda event: told.append(event.text))
    assert [blocks(job) for job in runs.embedded] == [2, 0, 1]
    assert told == ["2 blocks, seed 3", "head only, seed 3", "1 block, seed 3"]
    assert runs.processes == []


def test_on_a_cluster_trials_share_one_answer_to_how_many_workers_auto_is(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a process of its own: it would have to ask the cluster again."""
    asked: list[Job] = []

    def there(job: Job, debug: bool, emit: object) -> Job:
        asked.append(job)
        return with_workers(job, "ray", 3)

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("job.executors.ray.cluster.placed_there", there)
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0})
    sweep(parse_job(JOB), [0, 1, 2], 1, at_once=None, emit=lambda event: None)
    assert len(asked) == 1
    assert sorted(map(blocks, runs.processes)) == [0, 1, 2]
    assert [(job.scaling.executor, job.scaling.workers) for job in runs.processes] == [("ray", 3)] * 3
    assert runs.embedded == []


@pytest.mark.parametrize("wrong", ["", "0", "1,x", "-1,2", "1;2"])
def test_depths_that_are_none(wrong: str) -> None:
    done = CliRunner().invoke(thaw, ["sweep", "job.yaml", f"--unfreeze={wrong}"])
    assert done.exit_code == 2
    assert "numbers of blocks with commas between them are needed, such as 0,1,2" in done.output


def test_the_table_shows_the_spread_between_seeds() -> None:
    from rich.console import Console

    depth = summary_of_depth(0, runs=2, accuracy=0.875, accuracy_deviation=0.0123, seconds=12.0)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(sweep_table([depth]))
    row = " ".join(console.export_text().splitlines()[1].split())
    assert row == "head only 2 1,234,567 0.8750 ± 0.0123 0.5000 ± 0.0123 – 0.2500 ± 0.0123 12"
