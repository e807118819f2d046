"""Both phases of training in one process: a strategy of one worker, no Ray."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from job.config import Job
from job.config.jobfile import parse_job
from job.data.augment import augment_images, view_seeds
from job.features.dataset import Dataset
from job.model.backbones import build_base, draw_weights
from job.model.cut import cut_named, split
from job.model.heads import build_head
from job.model.network import Network, build_network
from job.storage import Store
from job.training.checkpoint import Checkpoint
from job.training.control import Control
from job.training.factory import Inputs, PhaseFactory
from job.training.phase_task import WorkerContext
from job.training.phases import Trained, WarmWeights, train_phases
from support.networks import own_base
from support.stored import caches, store_dataset


def job_of(backbone: str, *overrides: str) -> Job:
    text = f"""
name: tiny
data: {{source: file:///tmp/source/}}
store: file:///tmp/store/
model: {{backbone: {backbone}, weights: none, image_size: 32, head: {{hidden: [8]}}}}
phases:
  head: {{epochs: 2, learning_rate: 1e-2}}
  fine_tune: {{unfreeze: {{blocks: 1}}, epochs: 2, learning_rate: 1e-3, allow_unconverged_head: true}}
augment: {{flip_horizontal: true}}
train: {{batch_size: 8}}
"""
    return parse_job(text, overrides)


@dataclass(frozen=True)
class Bench:
    """A network, and a data set for it."""

    network: Network
    store: Store
    data: Dataset
    inputs: Inputs

    def train(
        self,
        job: Job,
        until: str,
        saved: list[Checkpoint],
        resumed: Checkpoint | None = None,
        stop: threading.Event | None = None,
        warm: WarmWeights | None = None,
    ) -> Trained:
        factory = PhaseFactory(job, self.network, self.data, inputs=self.inputs, team=team(job, saved, stop))
        return train_phases(factory, until=until, resumed=resumed, warm=warm)


def set_up(
    job: Job,
    folder: Path,
    cut: str | None = None,
    dtype: str = "float32",
    sizes: Sequence[int] = (19, 5, 5),
    limit: int | None = None,
) -> Bench:
    """Fine-tuning starts from stored images, or from what is stored at the cut, for each of the job's views.

    `sizes` are those of the splits.
    """
    count = sum(sizes)
    labels = np.arange(count, dtype=np.int32) % 2
    images = tinted(labels)
    base = lively(drawn(job, folder), images)
    views = [images]
    for view in range(1, job.train.views):
        views.append(augment_images(images, view_seeds(np.arange(count), view), job.augment).numpy())
    pooled = [base(images.astype(np.float32), training=False).numpy() for images in views]
    inputs = [images]
    if cut is not None:
        prefix, _ = split(base, cut_named(base, cut))
        inputs = [prefix(images.astype(np.float32), training=False).numpy().astype(dtype) for images in views]
    parts = np.split(np.arange(count), np.cumsum(sizes)[:-1])
    splits = dict(zip(("train", "validation", "test"), parts, strict=True))
    store, data = store_dataset(folder, labels, splits, pooled, inputs, tap=cut or "image")
    network = build_network(base, build_head(base.output_shape[-1], job.model.head, 2, seed=0))
    return Bench(network, store, data, Inputs(*caches(store, data, folder, limit), cut))


def drawn(job: Job, folder: Path) -> keras.Model:
    if "://" not in job.model.backbone:
        return draw_weights(build_base(job.model), 0)
    folder.mkdir(parents=True, exist_ok=True)
    own_base(folder / "own.keras")
    return build_base(job.model, str(folder / "own.keras"))


def tinted(labels: np.ndarray) -> np.ndarray:
    """Images whose left side is the redder the more they look like class 1, which some of class 0 do, too."""
    random = np.random.default_rng(0)
    images = random.integers(80, 120, (len(labels), 32, 32, 3))
    red = 40 + 20 * (3 * labels + random.standard_normal(len(labels)))
    images[:, :, :12, 0] += np.clip(red, 0, 130).astype(int)[:, None, None]
    return images.astype(np.uint8)


def lively(base: keras.Model, images: np.ndarray) -> keras.Model:
    """Batch norm with the statistics of these images: random weights alone let a signal fade to nothing."""
    layers = [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    base(images.astype(np.float32), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return base


def team(job: Job, saved: list[Checkpoint], stop: threading.Event | None = None) -> WorkerContext:
    """A worker alone, whose checkpoints go to `saved`."""
    control = Control(job.checkpoint, stop=stop)

    def save(checkpoint: Checkpoint, wait: bool) -> None:
        saved.append(checkpoint)

    def examples(positions: np.ndarray) -> str:
        return f"examples {positions.tolist()}"

    return WorkerContext(
        rank=0,
        world_size=1,
        strategy=tf.distribute.get_strategy(),
        control=control,
        save=save,
        emit=lambda event: None,
        examples=examples,
    )
