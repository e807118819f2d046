"""The executor that has Ray do the work, before Ray is asked for anything."""

from __future__ import annotations

from typing import Any

import pytest

from job.config import Job
from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot
from job.errors import CorruptFeatures, Interrupted
from job.executors.placement import with_workers
from job.executors.ray import SCRAPED, RayExecutor
from job.model.resolved import ResolvedBase
from job.run.interrupts import Interrupts
from job.training.context import Recipe

JOB = parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 3}}")


FINE_TUNING = parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {workers: 3, gpu: true}}")


def nothing(kind: str, **event: Any) -> None:
    pass


def recipe_of(job: Job, until: str) -> Recipe:
    return Recipe(
        job=job,
        run="run",
        attempt=1,
        until=until,
        last=True,
        snapshot=Snapshot("any", 0, [], {}, {}, {}),
        base=ResolvedBase("0" * 64),
        cut=None,
        warm_start=None,
    )


@pytest.mark.parametrize(("address", "scraped", "networks"), [("", 0.0, 1), ("127.0.0.1:6379", SCRAPED, 3)])
def test_on_a_cluster_prometheus_reads_before_the_pods_are_gone_and_each_worker_has_a_network(
    address: str, scraped: float, networks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with RayExecutor(JOB, False, nothing) as executor:
        assert (executor.scraped, executor.featurizers) == (scraped, networks)


def test_ray_is_not_started_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of a network runs in this process where no other machine works for it."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    with RayExecutor(JOB, False, nothing) as executor:
        assert executor.call(divmod, 7, 3) == (2, 1)


def test_ray_is_started_once_and_ended_with_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, answer in (("init", None), ("shutdown", None), ("cluster_resources", {})):
        monkeypatch.setattr(f"ray.{name}", lambda name=name, answer=answer, **_: (calls.append(name), answer)[1])
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with RayExecutor(JOB, False, nothing) as executor:
        for _ in range(2):
            assert executor.metrics is not None
        assert calls.count("init") == 1
        assert "shutdown" not in calls
    assert calls[-1] == "shutdown"


def test_on_a_cluster_an_error_of_ours_comes_back_as_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    class Task:
        def options(self, **options: Any) -> Task:
            assert options == {"num_cpus": 1, "num_gpus": 0}
            return self

        def remote(self, *arguments: Any) -> tuple[Any, ...]:
            return arguments

    raised = CorruptFeatures("bytes", "a", "b")

    def get(reference: object) -> None:
        raise ray.exceptions.RayTaskError("predict", "", raised)

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.remote", lambda function: Task())
    monkeypatch.setattr("ray.get", get)
    with RayExecutor(JOB, False, nothing) as executor, pytest.raises(CorruptFeatures) as caught:
        executor.call(divmod, 7, 3)
    assert caught.value is raised


@pytest.mark.parametrize(
    ("head_on", "until", "trained", "parts"),
    [
        ("cpu", "fine_tune", False, [(False, "head", False), (True, "fine_tune", True)]),
        ("cpu", "fine_tune", True, [(True, "fine_tune", True)]),
        ("cpu", "head", False, [(False, "head", True)]),
        ("gpu", "fine_tune", False, [(True, "fine_tune", True)]),
        ("gpu", "head", False, [(True, "head", True)]),
    ],
)
def test_workers_with_gpus_start_when_the_head_is_trained(
    head_on: str, until: str, trained: bool, parts: list[tuple[bool, str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """(with GPUs, until, whether they end the training) of each group of workers, in order."""
    made: list[tuple[bool, str, bool]] = []

    def run_training(recipe: Recipe, interrupts: Interrupts, emit: Any) -> None:
        made.append((recipe.job.scaling.gpu, recipe.until, recipe.last))
        assert recipe.job.scaling.max_workers == 3

    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("job.executors.ray.ray_train.run_training", run_training)
    monkeypatch.setattr("job.executors.ray.has_trained_head", lambda store, run, **_: trained)
    job = with_workers(FINE_TUNING, "ray", 3)
    job = job.model_copy(update={"scaling": job.scaling.model_copy(update={"head_on": head_on})})
    with RayExecutor(job, False, nothing) as executor:
        executor.train(recipe_of(job, until), Interrupts(), nothing)
    assert made == parts


def test_a_run_that_is_asked_to_end_between_the_groups_starts_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    interrupts = Interrupts()

    def run_training(recipe: Recipe, interrupts: Interrupts, emit: Any) -> None:
        made.append(recipe.until)
        interrupts.asked = "SIGTERM"

    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("job.executors.ray.ray_train.run_training", run_training)
    monkeypatch.setattr("job.executors.ray.has_trained_head", lambda store, run, **_: False)
    job = with_workers(FINE_TUNING, "ray", 3)
    with (
        RayExecutor(job, False, nothing) as executor,
        pytest.raises(Interrupted, match="the head is trained, and kept"),
    ):
        executor.train(recipe_of(job, "fine_tune"), interrupts, nothing)
    assert made == ["head"]
