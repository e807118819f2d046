"""The executors agree: one recipe, whoever runs it, and the same bytes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from job.storage import Store, open_store
from support import texts
from support.prepared import prepare_run

Thaw = Callable[..., "subprocess.CompletedProcess[str]"]
PICTURES = """
name: agreed
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: "file://{root}/own.keras", image_size: 32, head: {{hidden: [16], dropout: 0.2}}}}
phases:
  head: {{epochs: 4, learning_rate: 3e-2}}
  fine_tune:
    {{unfreeze: {{from: conv_1}}, epochs: 3, learning_rate: 1e-2, optimizer: adamw, allow_unconverged_head: true}}
augment: {{flip_horizontal: true, rotate: 10}}
train: {{batch_size: 16, views: 2, cache: "on"}}
"""
ONLINE = PICTURES.replace('views: 2, cache: "on"', "views: 1")
TEXTS = """
name: agreed
task: text
data: {{source: file://{root}/source/}}
store: file://{root}/store/
model: {{backbone: glove, weights: file://{root}/vectors.txt, max_tokens: 16, head: {{hidden: [16]}}}}
phases:
  head: {{epochs: 4, learning_rate: 1e-2}}
  fine_tune: {{epochs: 2, learning_rate: 1e-2, allow_unconverged_head: true}}
train: {{batch_size: 16}}
"""
BYTES = ("head.safetensors", "fine_tuned.safetensors", "predictions.parquet")


@dataclass(frozen=True)
class Done:
    run: Store
    told: str

    @property
    def trained(self) -> dict[str, bytes]:
        return {name: self.run.read(name) for name in BYTES}

    @property
    def history(self) -> dict[str, list[dict[str, Any]]]:
        return json.loads(self.run.read("training.json"))["history"]


def prepare(folder: Path, job: str) -> Path:
    """The job in a folder and a store of its own."""
    folder.mkdir()
    if "task: text" in job:
        (folder / "vectors.txt").write_bytes(texts.vectors())
        for key, content in texts.folder_of(80).items():
            open_store(f"file://{folder}/source/").write(key, content)
        (folder / "job.yaml").write_text(job.format(root=folder))
    else:
        prepare_run(folder, job)
    return folder / "job.yaml"


def run(thaw: Thaw, job: Path, *words: str) -> Done:
    done = thaw("run", str(job), "--json", *words)
    assert done.returncode == 0, done.stderr
    return Done(open_store(json.loads(done.stdout)["run"]), done.stderr)


@pytest.fixture(scope="module")
def embedded(here: Thaw, cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Done]]:
    """The job file and what it ends with, once for each job."""

    @cache
    def made(job: str) -> tuple[Path, Done]:
        path = prepare(tmp_path_factory.mktemp("embedded") / "job", job)
        return path, run(here, path)

    return made


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(PICTURES, id="pictures from the cache, in two views"),
        pytest.param(ONLINE, id="pictures changed anew in every epoch", marks=pytest.mark.slow),
        pytest.param(TEXTS, id="texts", marks=pytest.mark.slow),
    ],
)
def test_one_worker_on_ray_ends_with_the_bytes_of_the_embedded_one(
    job: str, embedded: Callable[[str], tuple[Path, Done]], here: Thaw, tmp_path: Path
) -> None:
    _, alone = embedded(job)
    on_ray = run(here, prepare(tmp_path / "ray", job), "--set", "scaling.executor=ray")
    assert "starting a worker" in on_ray.told
    assert "starting a worker" not in alone.told
    assert alone.trained == on_ray.trained


def test_two_workers_have_the_loss_curve_of_one(embedded: Callable[[str], tuple[Path, Done]], here: Thaw) -> None:
    """On the features that are stored, of 56 training examples, which batches of 16 do not divide."""
    path, one = embedded(PICTURES)
    two = run(here, path, "--new", "--set", "scaling.workers=2")
    assert "training on 1 worker," in one.told
    assert "training on 2 workers," in two.told
    for phase in ("head", "fine_tune"):
        for name in ("loss", "validation_loss"):
            mine, theirs = ([epoch[name] for epoch in done.history[phase] if name in epoch] for done in (one, two))
            assert len(mine) >= 2
            np.testing.assert_allclose(mine, theirs, rtol=1e-4)
