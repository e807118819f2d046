"""Fine-tuning from what is stored at the cut ends where fine-tuning from the images does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.config import Job
from job.errors import CorruptFeatures, TrainingError
from job.model.network import variables_by_path
from job.training.batches import CHUNK
from job.training.checkpoint import Checkpoint, Tensors
from job.training.phases import Trained
from support.bench import job_of, set_up
from support.cases import slow

SIZES = TRAIN, VALIDATION, TEST = 277, 40, 200
FEW = FEW_TRAIN, _, _ = 77, 16, 8
"""Where nobody looks at how many answers are right."""
OWN = "file:///own.keras"
CUT = "re_lu"
UNCHANGED = ("augment.flip_horizontal=false", "augment.rotate=0")


@dataclass(frozen=True)
class Run:
    """What came of both phases."""

    trained: Trained
    before: Tensors
    """The weights from which fine-tuning began, and maybe more."""
    last: Tensors
    """Those after its last epoch."""

    @property
    def correct(self) -> int:
        """Answers on the test split."""
        answers = self.trained.logits["fine_tune"][VALIDATION:].argmax(axis=1)
        return int((answers == self.trained.examples[VALIDATION:] % 2).sum())

    def distance(self, other: Run) -> float:
        """Of the last weights, as a part of how far fine-tuning has moved them."""
        assert self.last.keys() == other.last.keys()
        moved = {path: value - self.before[path] for path, value in self.last.items()}
        assert all(value.any() for value in moved.values())
        return length({path: self.last[path] - other.last[path] for path in self.last}) / length(moved)


def length(tensors: Tensors) -> float:
    return float(np.sqrt(sum((value.astype(np.float64) ** 2).sum() for value in tensors.values())))


def job(*overrides: str, backbone: str = OWN) -> Job:
    """With SGD: Adam makes steps of one size of gradients that are nothing but rounding."""
    fine_tune = ["model.head.hidden=[]", "phases.fine_tune.optimizer=sgd", "phases.fine_tune.learning_rate=1e-3"]
    thawed = ["phases.fine_tune.unfreeze={from: conv_1}"] if backbone == OWN else []
    return job_of(backbone, *thawed, *fine_tune, "augment.rotate=20", *overrides)


def run(job: Job, folder: Path, cut: str | None, dtype: str = "float32", **settings: Any) -> Run:
    bench, saved = set_up(job, folder, cut, dtype, **{"sizes": SIZES, **settings}), list[Checkpoint]()
    before = {path: variable.numpy() for path, variable in variables_by_path(bench.network.model).items()}
    trained = bench.train(job, "fine_tune", saved)
    return Run(trained, {**before, **trained.head}, saved[-1].weights)


def assert_equal(one: Run, other: Run) -> None:
    """But for the rounding of sums."""
    assert one.distance(other) < 1e-5
    for path, value in one.last.items():
        assert other.last[path] == pytest.approx(value, rel=1e-5, abs=1e-6 * float(np.abs(value).max())), path
    for name, logits in one.trained.logits.items():
        assert other.trained.logits[name] == pytest.approx(logits, rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = run(job(*UNCHANGED), tmp_path_factory.mktemp("uncached") / "own", None)
    assert 0.8 * TEST < found.correct < 0.97 * TEST  # neither guesses nor beyond doubt
    assert TRAIN / 8 > CHUNK
    return found


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(job(*UNCHANGED), tmp_path_factory.mktemp("cached") / "own", CUT)


def test_a_float32_cache_changes_nothing(uncached: Run, cached: Run) -> None:
    assert_equal(uncached, cached)


@pytest.mark.slow
def test_a_cut_further_down_changes_nothing(uncached: Run, tmp_path: Path) -> None:
    assert_equal(uncached, run(job(*UNCHANGED), tmp_path / "own", "rescaling"))


@pytest.mark.slow
def test_a_float32_cache_changes_nothing_of_a_deep_network(tmp_path: Path) -> None:
    """Whose random weights make much of little, so that its steps are small."""
    deep = job(*UNCHANGED, "phases.fine_tune.learning_rate=1e-5", backbone="mobilenetv2")
    plain, cached = (run(deep, tmp_path / str(cut), cut, sizes=(60, 8, 8)) for cut in (None, "block_15_add"))
    assert plain.distance(cached) < 2e-4


@pytest.mark.parametrize(("dtype", "most"), [("float16", 0.01), *slow(("bfloat16", 0.03))])
def test_a_cache_of_half_precision_changes_next_to_nothing(
    dtype: str, most: float, uncached: Run, tmp_path: Path
) -> None:
    half = run(job(*UNCHANGED), tmp_path / "own", CUT, dtype)
    assert 0 < uncached.distance(half) < most
    assert abs(half.correct - uncached.correct) <= 0.005 * TEST


def test_cached_views_are_those_that_would_be_drawn(tmp_path: Path) -> None:
    """The third epoch reads the first view again."""
    views = job("train.views=2", "phases.head.epochs=3", "phases.fine_tune.epochs=3")
    drawn, cached = (run(views, tmp_path / str(cut), cut, sizes=FEW) for cut in (None, CUT))
    assert_equal(drawn, cached)
    one = run(job(*UNCHANGED, "phases.head.epochs=3", "phases.fine_tune.epochs=3"), tmp_path / "one", CUT, sizes=FEW)
    assert one.distance(cached) > 0.1
    digests = [epoch.digest for epoch in cached.trained.history["fine_tune"] if epoch.digest]
    assert len(digests) == 3
    assert len(set(digests)) == 1


def test_a_cache_that_does_not_fit_changes_nothing(cached: Run, tmp_path: Path) -> None:
    small = run(job(*UNCHANGED), tmp_path / "own", CUT, limit=0)
    assert {path for path, value in cached.last.items() if value.tobytes() != small.last[path].tobytes()} == set()


@pytest.mark.parametrize(("phase", "cut"), [("head", CUT), ("fine_tune", CUT), ("fine_tune", None)])
def test_an_epoch_proves_that_it_read_the_data_set(phase: str, cut: str | None, tmp_path: Path) -> None:
    bench = set_up(job(), tmp_path / "own", cut, sizes=FEW)
    cache = (bench.inputs.pooled if phase == "head" else bench.inputs.fine_tune)[0]
    cache.wait(np.arange(sum(FEW)))
    cache.ids[FEW_TRAIN - 1] += 1
    digest = "[0-9a-f]{16}"
    told = rf"^{phase}: epoch 1: .* read \(digest {digest}, 1 out of place\) are not .* \({digest}\).*THAW_CACHE"
    with pytest.raises(TrainingError, match=told):
        bench.train(job(), "fine_tune", [])


@pytest.mark.parametrize("example", [0, FEW_TRAIN + 5])
@pytest.mark.parametrize("phase", ["head", "fine_tune"])
def test_a_corrupt_part_ends_training_by_its_name(phase: str, example: int, tmp_path: Path) -> None:
    """Whether an epoch meets it, or validation."""
    bench = set_up(job(), tmp_path / "own", CUT, sizes=FEW)
    features = (bench.data.pooled if phase == "head" else bench.data.inputs)[0]
    part = features.parts[features.part[example]]
    bench.store.write(f"features/{features.featurizer.id}/{part.file}.arrow", b"something else")
    with pytest.raises(CorruptFeatures, match="is not what was written") as caught:
        bench.train(job(), "fine_tune", [])
    assert (caught.value.featurizer, caught.value.file) == (features.featurizer.id, part.file)
