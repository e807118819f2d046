"""Work, memory and time by arithmetic, against the networks themselves."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import pytest

from job.config import Job, Model, UnfreezeFrom
from job.config.jobfile import parse_job
from job.executors.placement import with_workers
from job.features.cache_plan import Plan
from job.model.anatomy import Anatomy, BlockSize, anatomy_of, read_anatomy, write_anatomy
from job.model.backbones import build_base
from job.model.freezing import freeze, thaw
from job.model.heads import build_head
from job.planning.cached import MissingFeatures
from job.planning.calibration import EPOCH, EXCHANGE, PhaseSpeeds, Speeds
from job.planning.costs import PhaseCosts, Range, head_layers, memory, phases
from job.planning.history import History, last_like
from job.planning.timing import AGAIN, STARTS, Stage, stages, total
from job.storage import open_store
from support.networks import own_base

JOB = """
name: timed
data: {source: s3://bucket/source/}
store: s3://bucket/store/
model: {image_size: 32}
train: {batch_size: 32}
phases: {head: {epochs: 40, patience: 5}, fine_tune: {epochs: 6}}
"""
PLAN = Plan(16, "conv_0", (15, 15, 8), "float16")
ANATOMY = Anatomy((BlockSize("stem", 2, 300, 0), BlockSize("conv_1", 3, 1200, 1100)), 1000, 600, 900, 50, ("conv_1",))
COUNTS = {"train": 640, "validation": 100, "test": 100}


def job_of(*settings: str, text: str = JOB) -> Job:
    """Embedded, where it leaves that open."""
    job = parse_job(text, settings)
    return with_workers(job, "local", 1) if job.scaling.workers == "auto" else job


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> keras.Model:
    file = tmp_path_factory.mktemp("base") / "own.keras"
    own_base(file)
    made = build_base(Model(backbone=f"file://{file}", image_size=32), str(file))
    freeze(made)
    return made


def test_backward_is_what_the_gradients_multiply(base: keras.Model) -> None:
    thaw(base, UnfreezeFrom(**{"from": "conv_1"}))
    found = anatomy_of(base, "conv_0")
    first, second = 15 * 15 * 8 * 27, 7 * 7 * 16 * 72
    rest = 32 * 32 * 3, 2 * 15 * 15 * 8, 2 * 7 * 7 * 16
    assert found.below == first + rest[0]
    assert found.work >= first + second + sum(rest)
    above = found.work - first - second - rest[0] - rest[1]
    # Of conv_1 the gradient of its weights alone, since nothing below it trains; of what lies above, what flows down.
    assert found.backward == second + above
    assert found.kept >= 7 * 7 * 16 * 3
    assert found.thawed == ("conv_1",)
    assert found.parameters == base.count_params()
    assert found.trainable == 72 * 16 + 16


def test_deeper_thawing_costs_more_backward_and_less_is_below(base: keras.Model) -> None:
    thaw(base, UnfreezeFrom(**{"from": "conv_1"}))
    shallow = anatomy_of(base, None)
    thaw(base, UnfreezeFrom(**{"from": "conv_0"}))
    deep = anatomy_of(base, None)
    assert deep.backward > 2 * shallow.backward
    assert (deep.work, deep.below) == (shallow.work, 0)


def test_an_anatomy_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    store.write("x", b"")
    assert read_anatomy(store, "run") is None
    write_anatomy(store, "run", ANATOMY)
    assert read_anatomy(store, "run") == ANATOMY


@pytest.mark.parametrize("encoder", ["mean", "conv", "gru"])
@pytest.mark.parametrize("hidden", [[], [64, 32]])
def test_the_head_has_the_parameters_that_are_told(encoder: str, hidden: list[int]) -> None:
    model = f"{{backbone: glove, weights: /v.txt, max_tokens: 6, encoder: {encoder}, head: {{hidden: {hidden}}}}}"
    job = job_of("task=text", f"model={model}")
    features = 10 if encoder == "mean" else 60
    built = build_head(features, job.model.head, 5, seed=0, encoder=encoder, words=6)
    assert head_layers(job, features, 5)[0] == built.count_params()


def test_epochs_are_a_range_with_what_they_go_by() -> None:
    def epochs(*settings: str, **made: int) -> list[tuple[float, float, float]]:
        found = phases(job_of(*settings), PLAN, ANATOMY, classes=3, last_epochs=made, words=None)
        return [(p.epochs.low, p.epochs.likely, p.epochs.high) for p in found]

    assert epochs() == [(6, 13, 40), (6, 6, 6)]
    assert epochs("phases.fine_tune.patience=2") == [(6, 13, 40), (3, 6, 6)]
    assert epochs("phases.fine_tune.unfreeze=auto")[1] == (6, 12, 24)
    assert epochs("phases.head.epochs=4") == [(4, 4, 4), (6, 6, 6)]
    assert epochs("phases.fine_tune=null", head=20) == [(6, 20, 40)]


def test_memory_grows_with_what_trains_and_with_the_local_batch() -> None:
    def of(*settings: str, anatomy: Anatomy = ANATOMY) -> dict[str, int]:
        job = job_of(*settings)
        return vars(
            memory(
                job,
                PLAN,
                anatomy,
                phase=phases(job, PLAN, anatomy, classes=3, last_epochs={}, words=None)[-1],
                stored=10**6,
            )
        )

    plain = of("scaling.workers=2")
    assert plain["activations"] == 2 * 4 * 50 * 16
    assert of("scaling.workers=1")["activations"] == 2 * plain["activations"]
    assert of("scaling.workers=2", "train.precision=mixed_bfloat16")["activations"] == plain["activations"] / 2
    trained = 1100 + 17 * 256 + 257 * 3
    assert plain["optimizer"] == 2 * 4 * trained
    assert of("phases.fine_tune.optimizer=sgd")["optimizer"] == 4 * trained
    assert plain["features"] == 10**6


SPEEDS = Speeds(0.01, 0.02, 10.0, PhaseSpeeds(0.001, 0.002, 1.0), PhaseSpeeds(0.1, 0.05, 12.0), 15.0, ())


def timed_stages(
    job: Job,
    costs: list[PhaseCosts],
    listed: float,
    *,
    prepared: bool,
    missing: MissingFeatures,
    speeds: Speeds | None = None,
    history: History | None = None,
) -> list[Stage]:
    """The stages of a run whose listing took `listed` seconds."""
    return stages(job, listed, prepared, missing=missing, phases=costs, counts=COUNTS, speeds=speeds, history=history)


def test_seconds_from_a_calibration() -> None:
    job = job_of("scaling.workers=2")
    found = phases(job, PLAN, ANATOMY, classes=3, last_epochs={}, words=None)
    timed = timed_stages(job, found, 2.0, prepared=True, missing=MissingFeatures([], 840, 1500, {}), speeds=SPEEDS)
    by_name = {stage.name: stage for stage in timed}
    assert [stage.name for stage in timed] == [
        "listing", "preparing", "features", "workers", "head", "fine_tune", "export", "report",
    ]  # fmt: skip
    start = STARTS["ray"]["features"] * 10
    assert by_name["features"].seconds.likely == pytest.approx(1500 * 0.02 + 840 * 0.01 + start)  # type: ignore[union-attr]
    assert by_name["workers"].seconds.likely == pytest.approx(STARTS["ray"]["workers"] * 10)  # type: ignore[union-attr]
    assert {name for name, stage in by_name.items() if stage.source == "derived"} == {
        "preparing", "workers", "export", "report",
    }  # fmt: skip
    head_exchange, exchange = (4 * phase.trainable / EXCHANGE for phase in found)  # type: ignore[operator]
    epoch = 20 * (0.1 + exchange) + 4 * 0.05 + EPOCH
    assert by_name["fine_tune"].seconds.likely == pytest.approx(12 + 6 * epoch)  # type: ignore[union-attr]
    whole = total(timed)
    assert whole is not None
    assert whole.low < whole.likely < whole.high
    assert by_name["head"].seconds.likely == pytest.approx(  # type: ignore[union-attr]
        1 + 13 * (20 * (0.001 + head_exchange) + 4 * 0.002 + EPOCH)
    )


def test_one_worker_exchanges_nothing() -> None:
    job = job_of("scaling.workers=1")
    found = phases(job, PLAN, ANATOMY, classes=3, last_epochs={}, words=None)
    timed = timed_stages(job, found, 2.0, prepared=True, missing=MissingFeatures([], 840, 1500, {}), speeds=SPEEDS)
    seconds = {stage.name: stage.seconds for stage in timed}
    assert seconds["fine_tune"].likely == pytest.approx(12 + 6 * (20 * 0.1 + 4 * 0.05 + EPOCH))  # type: ignore[union-attr]


def test_what_was_not_measured_is_not_made_up() -> None:
    job = job_of()
    found = phases(job, PLAN, ANATOMY, classes=3, last_epochs={}, words=None)
    timed = timed_stages(job, found, 2.0, prepared=False, missing=MissingFeatures([], 840, 1500, {}))
    assert [stage.name for stage in timed if stage.seconds is None] == ["features", "head", "fine_tune"]
    assert total(timed) is None


def test_the_last_run_tells_its_epochs_and_its_stages(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    job = job_of()
    validated = {"epoch": 0, "validation_loss": 0.5, "validation_accuracy": 0.75}
    records = [{**validated, "epoch": e, "seconds": s, "examples": 320} for e, s in ((1, 9.0), (2, 4.0), (3, 4.0))]
    history = {"head": records, "fine_tune": [validated, *({**r, "seconds": 32.0} for r in records)]}
    training = {"kept": "head", "converged": True, "history": history}
    store.write("runs/timed-1/training.json", json.dumps(training).encode())
    store.write("runs/timed-1/job.json", job.model_dump_json(by_alias=True).encode())
    last = last_like(job, store, "timed-1")
    assert last is not None
    assert (last.epochs, last.seconds["head"], last.example) == ({"head": 3, "fine_tune": 3}, 4 / 320, None)
    found = phases(job, PLAN, ANATOMY, classes=3, last_epochs=last.epochs, words=None)
    timed = {
        s.name: s
        for s in timed_stages(job, found, 1.0, prepared=True, missing=MissingFeatures([], 0, 0, {}), history=last)
    }
    assert timed["fine_tune"].source == "last run"
    assert timed["fine_tune"].seconds.likely == pytest.approx(6 * 64)  # type: ignore[union-attr]
    timings = [
        {"attempt": 1, "stage": "features", "seconds": 50.0, "workers": None, "computed": 100, "stored": 0},
        {"attempt": 2, "stage": "features", "seconds": 1.0, "workers": None, "computed": 0, "stored": 100},
        {"attempt": 2, "stage": "export", "seconds": 7.0, "workers": None, "computed": None, "stored": None},
        {"attempt": 2, "stage": "preparing", "seconds": 9.0, "workers": None, "computed": None, "stored": None},
        {"attempt": 2, "stage": "words", "seconds": 3.0, "workers": 1, "computed": None, "stored": None},
    ]
    store.write("runs/timed-1/timings.json", json.dumps(timings).encode())
    last = last_like(job, store, "timed-1")
    assert last is not None
    assert (last.example, last.fixed) == (0.5, {"export": 7.0, "preparing": 9.0, "words": 3.0})
    timed = {
        s.name: s
        for s in timed_stages(job, found, 1.0, prepared=False, missing=MissingFeatures([], 0, 0, {}), history=last)
    }
    assert list(timed)[:4] == ["listing", "preparing", "words", "features"]
    assert timed["preparing"].seconds == Range(9 * AGAIN[0], 9, 9 * AGAIN[1])
    assert last_like(job_of("scaling.workers=4"), store, "timed-1") is None
    assert last_like(job_of("train.jit_compile=true"), store, "timed-1") is None
    assert last_like(job_of("phases.fine_tune.unfreeze={blocks: 1}"), store, "timed-1") is None
