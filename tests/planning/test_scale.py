"""The model of a run on many workers: its formulas, one by one, with numbers that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job.planning.scale import (
    FLOAT,
    KEY,
    Load,
    PhaseLoad,
    WorkerKind,
    all_reduce,
    busy,
    epoch,
    extraction,
    listing,
    modelled,
    start,
    training,
)
from job.planning.worker_kinds import GPUS, gpu_worker, without_gpu

KIND = WorkerKind(
    name="any",
    work=1e9,
    cores=4,
    exchange=1e8,
    hop=1e-3,
    storage=1e8,
    latency=0.1,
    step=0.01,
    start=10.0,
    prepare=0.0,
    another=0.0,
)
HEAD = PhaseLoad("head", 1000, 1e5, 2e5, 5, 100, on_cpus=True)
FINE_TUNE = PhaseLoad("fine_tune", 25_000_000, 1e6, 2e6, 3, 1000)
LOAD = Load(
    objects=100_000,
    counts={"train": 80_000, "validation": 10_000, "test": 10_000},
    undecoded=100_000,
    decode=0.01,
    object_bytes=1e4,
    passes=100_000,
    pass_work=1e6,
    feature_bytes=1e9,
    batch=100,
    phases=[HEAD, FINE_TUNE],
)


def test_a_listing_is_bound_by_a_core_or_by_the_answers_of_the_store() -> None:
    assert listing(LOAD, KIND).seconds == pytest.approx(100 * 0.1 / 8)
    assert listing(LOAD, KIND).bound == "the store's answers"
    near = listing(LOAD, replace(KIND, latency=0.01))
    assert (near.seconds, near.bound) == (pytest.approx(100_000 * KEY), "one core")


@pytest.mark.parametrize(
    ("changed", "workers", "seconds", "bound"),
    [
        ({}, 1, 100_000 * 0.01 / 4, "decoding"),
        ({}, 5, 100_000 * 0.01 / 20, "decoding"),
        ({"decode": 1e-5}, 2, 100_000 * 1e6 / 2e9, "the network"),
        ({"decode": 1e-5, "pass_work": 1.0}, 2, 100_000 * 0.1 / (8 * 32), "the store's answers"),
        ({"decode": 1e-5, "pass_work": 1.0, "object_bytes": 1e6}, 2, 1e11 / 2e8, "bytes from the store"),
        ({"decode": 1e-5, "pass_work": 1.0, "feature_bytes": 1e11}, 2, 1e11 / 2e8, "bytes to the store"),
    ],
)
def test_extraction_takes_as_long_as_the_slowest_of_its_parts(
    changed: dict[str, float], workers: int, seconds: float, bound: str
) -> None:
    stage = extraction(replace(LOAD, **changed), KIND, workers)  # type: ignore[arg-type]
    assert (stage.seconds - KIND.start, stage.bound) == (pytest.approx(seconds), bound)


def test_one_worker_sums_nothing_and_a_ring_sends_less_than_twice_the_gradients() -> None:
    assert all_reduce(1000, KIND, 1) == 0
    assert all_reduce(25_000_000, KIND, 2) == pytest.approx(FLOAT * 25e6 / 1e8 + 2 * 1e-3)
    assert all_reduce(25_000_000, KIND, 1000) == pytest.approx(2 * 999 / 1000 * FLOAT * 25e6 / 1e8 + 1998 * 1e-3)
    assert all_reduce(25_000_000, replace(KIND, shared=2), 4) == pytest.approx(6 * FLOAT * 25e6 / 1e8 + 6 * 1e-3)


@pytest.mark.parametrize(("workers", "crowded"), [(1, 1), (2, 1), (4, 2), (8, 4)])
def test_workers_that_share_a_machine_wait_for_each_other_s_cores(workers: int, crowded: int) -> None:
    shared = replace(KIND, shared=2)
    assert start(replace(shared, prepare=3.0), workers) == 10 + crowded * 3.0
    one, other = (epoch(LOAD, HEAD, kind, workers=workers)["steps' own cost"] for kind in (shared, KIND))
    assert one == pytest.approx(crowded * other)


def test_each_further_worker_adds_to_the_start() -> None:
    assert [start(replace(KIND, another=0.5), workers) for workers in (1, 2, 9)] == [10.0, 10.5, 14.0]


def test_an_epoch_is_its_steps_and_those_of_its_validation() -> None:
    parts = epoch(LOAD, FINE_TUNE, KIND, workers=4)
    assert parts["the network"] == pytest.approx(25 * (800 * 3e6 + 100 * 1e6) / 1e9)
    assert parts["steps' own cost"] == pytest.approx(900 * 0.01)
    assert parts["the sum of the gradients"] == pytest.approx(800 * all_reduce(25_000_000, KIND, 4))
    stage = training(LOAD, FINE_TUNE, KIND, workers=4)
    assert (stage.seconds, stage.bound) == (pytest.approx(3 * sum(parts.values())), "the sum of the gradients")


def test_the_first_epoch_waits_for_features_that_come_more_slowly_than_they_are_used() -> None:
    wide = replace(FINE_TUNE, example_bytes=100_000_000)
    parts, stage = epoch(LOAD, wide, KIND, workers=4), training(LOAD, wide, KIND, workers=4)
    assert stage.seconds == pytest.approx(2 * sum(parts.values()) + 1e13 / 4e8)
    assert stage.bound == "features from the store"


def test_each_kind_of_workers_starts_once_and_holds_gpus_only_where_it_needs_them() -> None:
    def holding(load: Load) -> dict[str, bool]:
        return {stage.name: stage.gpus for stage in modelled(load, KIND, 2)}

    done = replace(LOAD, undecoded=0)
    on_gpus = replace(done, phases=[replace(HEAD, on_cpus=False), FINE_TUNE])
    cpus, gpus = {"head_workers": False, "head": False}, {"workers": True, "fine_tune": True}
    assert holding(LOAD) == {"listing": False, "features": True, **cpus, **gpus}
    assert holding(done) == {"listing": False, **cpus, **gpus}
    assert holding(replace(done, phases=[HEAD])) == {"listing": False, **cpus}
    assert holding(on_gpus) == {"listing": False, "workers": True, "head": True, "fine_tune": True}


def test_files_that_many_examples_are_packed_in_are_neither_listed_nor_asked_for_one_by_one() -> None:
    packed = replace(LOAD, objects=0, decode=1e-9, pass_work=1.0)
    assert listing(packed, KIND).seconds == 0
    assert extraction(packed, KIND, 1).bound == "bytes from the store"


def test_workers_beyond_the_streams_of_the_order_have_nothing_to_do() -> None:
    assert [busy(LOAD, workers) for workers in (1, 64, 65, 1000)] == [1, 64, 64, 64]
    assert busy(replace(LOAD, batch=10), 64) == 10
    parts = [epoch(LOAD, FINE_TUNE, KIND, workers=workers)["the network"] for workers in (64, 1000)]
    assert parts[0] == parts[1]


def test_the_head_s_cores_are_not_the_gpu_s() -> None:
    gpu = gpu_worker("h100")
    stages = modelled(LOAD, gpu, 8, on_cpus=without_gpu(gpu, 2))
    by_name = {stage.name: stage.seconds for stage in stages}
    assert by_name["head"] == training(LOAD, HEAD, without_gpu(gpu, 2), workers=8).seconds
    assert by_name["fine_tune"] == training(LOAD, FINE_TUNE, gpu, workers=8).seconds


@pytest.mark.parametrize("name", GPUS)
def test_more_workers_never_extract_more_slowly_once_they_are_there(name: str) -> None:
    kind = gpu_worker(name)
    seconds = [extraction(LOAD, kind, workers).seconds - start(kind, workers) for workers in (1, 2, 8, 64, 1000)]
    assert seconds == sorted(seconds, reverse=True)
