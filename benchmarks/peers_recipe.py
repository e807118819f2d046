"""What the sides of peers.py share: photographs, split, network and settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq

from job.config import Data, Head, Model, UnfreezeBlocks

if TYPE_CHECKING:
    import keras
    import numpy as np

BATCH = 32
RATES = {"head": 1e-3, "fine_tune": 1e-4}
"""Adam's learning rate in each phase."""
BLOCKS = 1
"""Blocks that the second phase thaws, from the top."""
MODEL = Model(backbone="efficientnet_lite0", weights="package", image_size=224, head=Head(hidden=[256], dropout=0.2))
CLASSES = ["defective", "functional"]
AUTO_WORKERS = 2
"""Of Ray's side, where Thaw chooses its own number."""


@dataclass(frozen=True)
class Recipe:
    folder: Path
    """`data/` has the photographs, `store/snapshots/` the split."""
    seed: int
    head_epochs: int
    fine_tune_epochs: int
    workers: int | Literal["auto"]
    """As `scaling.workers` of a job file takes it."""

    @property
    def ray_workers(self) -> int:
        return AUTO_WORKERS if self.workers == "auto" else self.workers

    def phases(self) -> Iterator[tuple[str, int, float]]:
        """Name, epochs and learning rate."""
        yield "head", self.head_epochs, RATES["head"]
        yield "fine_tune", self.fine_tune_epochs, RATES["fine_tune"]

    def examples(self, split: str) -> tuple[list[str], list[int]]:
        """Files and labels of one side of Thaw's split."""
        (snapshot,) = self.folder.glob("store/snapshots/*[0-9a-f].parquet")
        rows = pq.read_table(snapshot, columns=["key", "label", "split"]).to_pylist()
        mine = [row for row in rows if row["split"] == split]
        return [str(self.folder / "data" / row["key"]) for row in mine], [CLASSES.index(row["label"]) for row in mine]


def prepare(folder: Path, images: int | None) -> None:
    """Writes the photographs (or so many of them, with the classes in proportion) and Thaw's split of them."""
    if (folder / "store").exists():
        return
    from job.data.snapshot import take_snapshot
    from job.demo.solar_cells import write_cells
    from job.storage import open_store

    write_cells(folder / "cells")
    cells = {label: sorted((folder / "cells" / label).iterdir()) for label in CLASSES}
    total = sum(map(len, cells.values()))
    for label, files in cells.items():
        wanted = len(files) if images is None else max(1, round(len(files) * images / total))
        (folder / "data" / label).mkdir(parents=True)
        for index in range(wanted):
            file = files[index * len(files) // wanted]
            shutil.copy2(file, folder / "data" / label / file.name)
    shutil.rmtree(folder / "cells")
    data = Data(source=f"file://{folder}/data/")
    take_snapshot(data, open_store(data.source), open_store(f"file://{folder}/store/"))


def forget_reads(folder: Path) -> None:
    """Sets the access times of the photographs back, for `first_read`."""
    for file in folder.glob("data/*/*"):
        os.utime(file, ns=(0, file.stat().st_mtime_ns))


def first_read(folder: Path) -> float:
    """When the first photograph was read after `forget_reads`, in seconds since the epoch."""
    read = [seconds for file in folder.glob("data/*/*") if (seconds := file.stat().st_atime)]
    if not read:
        raise SystemExit(f"peers: {folder} is on a disk that keeps no access times: give another with --folder")
    return min(read)


def build_model(seed: int, folder: Path) -> tuple[keras.Model, keras.Model]:
    """The frozen base with its weights, and the whole model as the guides build it: the base inside, as one layer.

    `folder` is where the weights are put on the way, as Thaw does. The head begins with the same weights as Thaw's.
    """
    import keras

    from job.model.freezing import freeze
    from job.model.heads import build_head
    from job.model.weights import resolve_base
    from job.storage import open_store

    store = open_store(f"file://{folder}/")
    _, base = resolve_base(MODEL, store, seed, log=lambda _: None)
    freeze(base)
    head = build_head(base.output_shape[-1], MODEL.head, len(CLASSES), seed=seed)
    images = keras.Input([MODEL.image_size, MODEL.image_size, 3])
    return base, keras.Model(images, head(base(images, training=False)))


def thaw_top(base: keras.Model) -> None:
    from job.model.freezing import thaw

    thaw(base, UnfreezeBlocks(blocks=BLOCKS))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Thaw's own measure, of logits float32 [n, classes] against labels int [n]."""
    from job.evaluation.metrics import evaluate

    return evaluate(logits, labels).accuracy
