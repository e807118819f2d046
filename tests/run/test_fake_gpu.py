"""GPUs that are not there: what a process is told, and that nothing of it is taken for real."""

from __future__ import annotations

import numpy as np
import pytest

from job.config.jobfile import parse_job
from job.data.snapshot import Snapshot
from job.errors import ClusterError, JobError
from job.executors.placement import without_gpus
from job.features.cache_plan import Plan, featurizers, input_featurizer
from job.model.resolved import ResolvedBase
from job.run.fake_gpu import FAKE, RATE, USUAL, check_fake, fake_environment, fake_features, fake_rate
from job.run.identity import run_id
from job.run.strategy import has_gpu, prepare_process, use_jit

JOB = parse_job("{name: any, data: {source: 'file:///'}, store: 'file:///', scaling: {gpu: true}}")
SNAPSHOT, BASE, PLAN = Snapshot("any", 0, ["a", "b"], {}, {}, {}), ResolvedBase("0" * 64), Plan(16)


@pytest.fixture(params=[False, True])
def faked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv(FAKE, "1" if request.param else "0")
    return request.param


@pytest.mark.parametrize(
    ("fake", "stated", "rate"),
    [(None, None, None), ("0", "50", None), ("", None, None), ("1", None, USUAL), ("1", "", USUAL), ("1", "0.5", 0.5)],
)
def test_the_rate_is_what_the_environment_states(
    fake: str | None, stated: str | None, rate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ((FAKE, fake), (RATE, stated)):
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    assert fake_rate(JOB) == rate
    assert fake_rate(without_gpus(JOB)) is None
    stated_here = {name for name, value in ((FAKE, fake), (RATE, stated)) if value is not None}
    assert set(fake_environment(JOB)) == (stated_here if rate else set())


@pytest.mark.parametrize("stated", ["0", "-1", "inf", "nan", "fast"])
def test_a_rate_that_is_none_is_named(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE, "1")
    monkeypatch.setenv(RATE, stated)
    with pytest.raises(JobError, match=f"{RATE}={stated}: a number"):
        fake_rate(JOB)


def test_what_is_neither_on_nor_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAKE, "false")
    with pytest.raises(JobError, match=f"{FAKE}=false: 1 or 0"):
        fake_rate(JOB)


def test_a_process_that_was_told_otherwise_than_the_driver_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    meanings = {}
    for value in ("0", "1"):
        monkeypatch.setenv(FAKE, value)
        meanings[value] = featurizers(JOB, BASE, PLAN)[0][0].meaning
    for here in ("0", "1"):
        monkeypatch.setenv(FAKE, here)
        for there, meaning in meanings.items():
            if here == there:
                check_fake(JOB, meaning)
            else:
                with pytest.raises(ClusterError, match=f"{FAKE} is {here} on .* and {there} where the run was started"):
                    check_fake(JOB, meaning)
            check_fake(without_gpus(JOB), meaning)


def test_fake_runs_and_features_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE, raising=False)

    def ids() -> list[str]:
        pooled = featurizers(JOB, BASE, PLAN)[0][0]
        return [run_id(JOB, SNAPSHOT, BASE), pooled.id, input_featurizer(JOB).id]

    real = ids()
    monkeypatch.setenv(FAKE, "1")
    fake = ids()
    assert real[0] != fake[0]
    assert real[1] != fake[1]
    assert real[2] == fake[2], "no network decodes"
    monkeypatch.setenv(RATE, "7")
    assert ids() == fake, "how long it sleeps changes no value"


def test_a_worker_without_a_gpu_starts_where_gpus_are_fake_alone(faked: bool) -> None:
    assert has_gpu(JOB) is not faked
    for setting in ("auto", True):
        asked = JOB.model_copy(update={"train": JOB.train.model_copy(update={"jit_compile": setting})})
        assert use_jit(asked, depthwise=False) is not faked, "XLA can't sleep"
    if faked:
        prepare_process(JOB, 1)
    else:
        with pytest.raises(ClusterError, match="TensorFlow finds no GPU"):
            prepare_process(JOB, 1)


@pytest.mark.parametrize("shape", [(16,), (3, 3, 2), (4000,)])
def test_features_of_different_examples_differ(shape: tuple[int, ...]) -> None:
    inputs = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    found = fake_features(inputs, shape)
    assert (found.shape, found.dtype) == ((5, *shape), np.float32)
    assert 0 <= found.min() < found.max() <= 1
    assert len({one.tobytes() for one in found}) == 5
    np.testing.assert_array_equal(found, fake_features(inputs, shape))
