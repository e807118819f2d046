"""The feature store through the command line: what is computed once, what anew, and what is never trained on."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from job.config.jobfile import load_job
from job.data.decoding import decode_image
from job.data.snapshot import read_snapshot, take_snapshot
from job.data.sources.packed import list_shards, split_key, without_index
from job.executors.local import LocalExecutor
from job.executors.packed_index import index_shards
from job.features.cache import FeatureCache, NodeCache
from job.features.cache_plan import Plan
from job.features.dataset import load_dataset
from job.features.extract import extract
from job.features.store import Featurizer, stored_features
from job.model.weights import resolve_base
from job.run.run import Run
from job.storage import Store, open_store
from support import shards
from support.cases import slow
from support.images import CLASSES, folder_of, picture
from support.networks import own_base

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
EXAMPLES, ADDED = 120, 12
JOB = """
name: cached
data: {{source: {root}/source/}}
store: {root}/store/
model: {{backbone: {root}/own.keras, image_size: 32, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 3, learning_rate: 3e-2, patience: 1}}
  fine_tune: {{unfreeze: {{from: conv_1}}, epochs: 3, learning_rate: 1e-2, allow_unconverged_head: true}}
augment: {{flip_horizontal: true, rotate: 10}}
train: {{batch_size: 16, views: 2}}
"""


@dataclass(frozen=True)
class Place:
    """A folder with a job file, its source and its store."""

    folder: Path
    thaw: Thaw

    @property
    def store(self) -> Store:
        return open_store(f"file://{self.folder}/store/")

    @property
    def job(self) -> str:
        return str(self.folder / "job.yaml")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = self.thaw("run", self.job, "--json", *words)
        assert done.returncode == 0, done.stderr
        return done

    def stored(self) -> dict[tuple[str, int], int]:
        """Examples in the feature store by tap and view, as its markers have them."""
        counts = {}
        for info in self.store.list("features/"):
            if info.key.endswith("/featurizer.json"):
                featurizer = Featurizer.from_json(json.loads(self.store.read(info.key)))
                found = stored_features(self.store, featurizer)
                counts[featurizer.tap, featurizer.view] = len(found.addresses)
        return counts

    def parts(self) -> set[str]:
        return {info.key for info in self.store.list("features/") if info.key.endswith(".arrow")}


def fill(folder: Path, job: str = JOB, examples: int = EXAMPLES) -> None:
    own_base(folder / "own.keras")
    add(folder, examples)
    (folder / "job.yaml").write_text(job.format(root=f"file://{folder}"))


def add(folder: Path, examples: int) -> None:
    source = open_store(f"file://{folder}/source/")
    there = {info.key for info in source.list()} if (folder / "source").exists() else set()
    for key, content in folder_of(examples).items():
        if key not in there:
            source.write(key, content)


@pytest.fixture(scope="module")
def place(here: Thaw, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """After the head phase, which stores the features of both phases."""
    folder = tmp_path_factory.mktemp("cached")
    fill(folder)
    place = Place(folder, here)
    done = place.run("--phase", "head")
    assert "cache: stored at " in done.stderr
    return place


def trained_on(place: Place, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    run = json.loads(done.stdout)["run"].removeprefix(place.store.uri)
    return json.loads(place.store.read(f"{run}training.json"))


def test_both_taps_of_every_view_are_stored_once(place: Place) -> None:
    stored = place.stored()
    taps = {tap for tap, _ in stored}
    assert taps >= {"pooled"}
    assert len(taps) == 2
    train = json.loads(next(place.store.read(i.key) for i in place.store.list("snapshots/") if i.key.endswith(".json")))
    train_examples = sum(train["counts"]["train"].values())
    assert {count for (_, view), count in stored.items() if view == 0} == {EXAMPLES}
    assert {count for (_, view), count in stored.items() if view == 1} == {train_examples}


def test_a_corrupt_part_is_reported_computed_again_and_not_trained_on(place: Place) -> None:
    """Training finds it; the run then goes on from the head's checkpoint, on the same bytes as before."""
    key = max(place.parts(), key=lambda key: len(place.store.read(key)))
    whole = place.store.read(key)
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    place.store.write(key, bytes(content))
    done = place.run()
    assert f"{key} is not what was written (sha256). It is computed again." in done.stderr
    assert "features: " in done.stderr
    assert place.store.read(key) == whole
    assert json.loads(done.stdout)["state"] == "finished"


def test_every_epoch_proves_which_examples_it_saw(place: Place) -> None:
    history = trained_on(place, place.run())["history"]
    epochs = [epoch for phase in history.values() for epoch in phase if epoch["epoch"]]
    assert len({epoch["digest"] for epoch in epochs}) == 1
    assert {epoch["examples"] for epoch in epochs} == {place.stored()["pooled", 1]}


def test_another_head_computes_no_feature_and_nothing_is_thawed_before_it_has_converged(place: Place) -> None:
    before = place.parts()
    settings = ["model.head.hidden=[8]", "phases.head.epochs=1", "phases.head.learning_rate=1e-2"]
    settings.append("phases.fine_tune.allow_unconverged_head=false")
    done = place.thaw("run", place.job, *(word for setting in settings for word in ("--set", setting)))
    assert f"the features of all {EXAMPLES} examples are stored already" in done.stderr
    assert place.parts() == before
    assert (done.returncode, done.stdout) == (5, "")
    assert "Traceback" not in done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert len(message) < 900
    assert re.match(r"thaw: .*has not converged in phases.head.epochs \(1\).*Raise phases.head.epochs", message)


def test_of_a_larger_source_only_the_new_examples_are_computed(place: Place) -> None:
    before, parts = place.stored(), place.parts()
    add(place.folder, EXAMPLES + ADDED)
    done = place.run("--phase", "head")
    assert f"features: {ADDED} of {ADDED} examples" in done.stderr
    assert place.parts() > parts
    after = place.stored()
    assert {after[key] - before[key] for key in after if key[1] == 0} == {ADDED}
    assert all(0 < after[key] - before[key] <= ADDED for key in after if key[1] == 1)


@pytest.mark.slow
def test_activations_too_large_for_float16_are_stored_as_bfloat16(here: Thaw, tmp_path: Path) -> None:
    fill(tmp_path, JOB.replace("views: 2", "views: 1").replace("flip_horizontal: true, rotate: 10", ""), 40)
    base = keras.saving.load_model(tmp_path / "own.keras")
    kernel, bias = base.get_layer("conv_0").get_weights()
    base.get_layer("conv_0").set_weights([kernel * 1e6, bias])
    base.get_layer("norm_0").set_weights(
        [value if i != 3 else value * 1e-3 for i, value in enumerate(base.get_layer("norm_0").get_weights())]
    )
    base.save(tmp_path / "own.keras")
    place = Place(tmp_path, here)
    done = place.run("--phase", "head", "--set", "train.cache=on")
    assert "are too large for float16: they are stored as bfloat16" in done.stderr
    plan = next(json.loads(place.store.read(i.key)) for i in place.store.list("runs/") if i.key.endswith("/plan.json"))
    assert plan["dtype"] == "bfloat16"


def pack(folder: Path, kind: str) -> None:
    layout, suffix, make = shards.MAKERS[kind]
    fill(folder, examples=0, job=JOB.replace("/source/}", "/source/, layout: " + layout + "}"))
    source = open_store(f"file://{folder}/source/")
    for number in range(3):
        source.write(f"{number}.{suffix}", make(shards.examples(EXAMPLES // 3, start=number * EXAMPLES // 3)))


@pytest.mark.slow
def test_a_packed_source_trains_like_a_folder(here: Thaw, tmp_path: Path) -> None:
    pack(tmp_path, "webdataset")
    place = Place(tmp_path, here)
    result = json.loads(place.run("--phase", "head").stdout)
    assert result["metrics"]["head"]["accuracy"] > 0.8
    assert {count for (_, view), count in place.stored().items() if view == 0} == {EXAMPLES}


def unheard(kind: str, **event: Any) -> None:
    pass


KINDS = ["tfrecord", *slow("parquet", "parquet of Hugging Face")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_packed_layout_gives_the_features_of_its_pictures(kind: str, tmp_path: Path) -> None:
    """The stored pixels are those of the same pictures as single objects."""
    pack(tmp_path, kind)
    job = load_job(tmp_path / "job.yaml", ["train.cache=off"])
    source, store = open_store(job.data.source), open_store(job.store)
    missing = without_index(job.data, source, store, shards=list_shards(job.data, source))
    with LocalExecutor(job) as executor:
        index_shards(job.data, source, store, missing=missing, executor=executor, emit=unheard)
        snapshot = take_snapshot(job.data, source, store, task=job.task)
        base, _ = resolve_base(job.model, store, 0, log=lambda _: None)
        extract(Run(job, "run", store, snapshot, base), Plan(features=16), executor, emit=unheard)
    data = load_dataset(store, "run", snapshot.classes, class_weights=None)
    cache = FeatureCache(store, data, data.inputs[0], cache=NodeCache(str(tmp_path / "cache"), None, 1))
    cache.wait(np.arange(EXAMPLES))
    keys = read_snapshot(store, snapshot, ["key"])["key"].take(data.rows).to_pylist()
    for key, image in zip(keys, cache.values, strict=True):
        shard, position = split_key(key)
        number = int(shard.partition(".")[0]) * EXAMPLES // 3 + position
        assert (image == decode_image(picture(number, CLASSES[number % 2]), 32, "stretch").numpy()).all()
