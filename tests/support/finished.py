"""A finished run as its folder in the store has it, made without training: with what hostile data has in it."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from job.config.jobfile import parse_job
from job.data.snapshot import read_snapshot, take_snapshot
from job.evaluation.metrics import evaluate
from job.storage import Store, open_store
from support.images import encode

RUN = "tiny-0123456789ab"
CLASSES = ('<script>alert("x")</script>', "a | b & 'c'", "never\ntested 😀")
"""The last one has no test example."""
BLOCKS = [
    {"block": "stem", "layers": 2, "parameters": 100, "trainable": 0, "cut": True},
    {"block": "<b>top</b>", "layers": 3, "parameters": 300, "trainable": 200, "cut": False},
    {"block": "head", "layers": 3, "parameters": 50, "trainable": 50, "cut": False},
]


@dataclass
class Made:
    """What to make; `finish` writes it."""

    folder: Path
    classes: tuple[str, ...] = CLASSES
    tested: int = 40
    task: str = "image"
    fine_tuned: bool = True
    settings: str = ""
    """More of the job file, as YAML."""
    training: dict[str, Any] = field(default_factory=dict)
    """In place of what training.json would have."""

    def finish(self) -> tuple[Store, str]:
        source, store = (open_store(f"file://{self.folder}/{name}/") for name in ("source", "store"))
        self._fill(source)
        text = f"""
name: tiny
task: {self.task}
store: {store.uri}
{self.settings}
"""
        table = "file: labels.jsonl, split: split" + (", text: text" if self.task == "text" else "")
        data = f"data: {{source: '{source.uri}', layout: table, table: {{{table}}}, max_rejects: 0.5}}\n"
        model = f"model: {{backbone: glove, weights: '{source.uri}none.txt', max_tokens: 16}}\n"
        job = parse_job(text + data + (model if self.task == "text" else "model: {image_size: 32}\n"))
        snapshot = take_snapshot(job.data, source, store, task=job.task)
        table = read_snapshot(store, snapshot, ["key", "label", "split"])
        chosen = table.filter(pa.compute.equal(table["split"], "test"))
        labels = np.array([snapshot.classes.index(label) for label in chosen["label"].to_pylist()])
        models = ("head", "fine_tune") if self.fine_tuned else ("head",)
        logits = {name: _logits(labels, len(snapshot.classes), seed) for seed, name in enumerate(models)}
        self._write(store, "predictions.parquet", parquet(chosen["key"], labels, logits))
        metrics = {name: evaluate(values, labels) for name, values in logits.items()}
        documents = {
            "job": job.model_dump(mode="json", by_alias=True),
            "training": {**_training(self.fine_tuned), **self.training},
            "plan": {"features": 8, "cut": "x", "shape": [4, 4, 8], "dtype": "float16", "reason": "stored at x"}
            | {"seconds_whole": 0.01, "seconds_below": 0.008},
            "promotion": {"promoted": True, "reason": "it is the first model of this job", "run": RUN, "against": None},
            "timings": [
                {"attempt": 1, "stage": "features", "seconds": 90.0, "workers": 1, "computed": 100, "stored": 0},
                {"attempt": 2, "stage": "head", "seconds": 3600.0, "workers": 2, "computed": None, "stored": None},
            ],
            "result": {
                "run": f"{store.uri}runs/{RUN}/",
                "snapshot": snapshot.id,
                "state": "finished",
                "metrics": {name: asdict(metrics[name]) if name in metrics else None for name in ("head", "fine_tune")},
                "classes": snapshot.classes,
                "model": f"{store.uri}runs/{RUN}/model/1/",
                "kept": models[-1],
            },
        }
        for name, document in documents.items():
            self._write(store, f"{name}.json", json.dumps(document).encode())
        rejects = {"key": '"><img src=x onerror=alert(1)>', "label": "a", "reason": "broken image: <truncated>"}
        self._write(store, "rejects.jsonl", json.dumps(rejects).encode() + b"\n")
        return store, RUN

    def _write(self, store: Store, name: str, content: bytes) -> None:
        store.write(f"runs/{RUN}/{name}", content)

    def _fill(self, source: Store) -> None:
        """Of the classes, the last is not in the test split, where there are more than two."""
        random = np.random.default_rng(0)
        rows = []
        tested = self.classes[:-1] if len(self.classes) > 2 else self.classes
        sides = [(name, "train") for name in self.classes] + [(name, "validation") for name in self.classes]
        sides += [(tested[i % len(tested)], "test") for i in range(self.tested)]
        pixels = random.integers(0, 255, (48, 40, 3), np.uint8)
        picture = encode(pixels)
        for number, (label, split) in enumerate(sides):
            row = {"key": f"{number:05d} <i>'\"&\n😀.png", "label": label, "split": split}
            if self.task == "text":
                row["text"] = f"<b>text</b> number {number}: the cell & its defect “{label}”"
            elif number % 5:
                source.write(row["key"], picture[: 200 + number % 7] if number % 9 == 0 else picture)
            else:
                source.write(row["key"], b"words, and no picture")
            rows.append(row)
        source.write("labels.jsonl", "\n".join(map(json.dumps, rows)).encode())


def _logits(labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """float32 [n, classes]: mostly right; one is not a number."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 2
    logits[-1, 0] = np.nan
    return logits


def parquet(keys: pa.ChunkedArray, labels: np.ndarray, logits: dict[str, np.ndarray]) -> bytes:
    """As predictions.parquet."""
    columns = {"key": keys, "split": pa.array(["test"] * len(labels)), "label": pa.array(labels.astype(np.int32))}
    columns |= {f"logits_{name}": pa.array(list(values)) for name, values in logits.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _training(fine_tuned: bool) -> dict[str, Any]:
    def epoch(number: int) -> dict[str, Any]:
        return {
            "epoch": number,
            "loss": 1.0 / number,
            "validation_loss": float("nan") if number == 2 else 1.1 / number,
            "validation_accuracy": 1 - 0.5 / number,
            "learning_rate": 1e-3,
            "seconds": 2.0,
            "examples": 100,
        }

    tuned = [{"epoch": 0, "validation_loss": 0.3, "validation_accuracy": 0.8}, epoch(1), epoch(2), epoch(3)]
    return {
        "kept": "fine_tune" if fine_tuned else "head",
        "converged": True,
        "thawed": [],
        "history": {"head": [epoch(n) for n in range(1, 5)], "fine_tune": tuned if fine_tuned else []},
        "range_tests": {},
        "parameters": {"head": 50, "fine_tune": 250 if fine_tuned else 0},
        "blocks": BLOCKS,
    }


def export(store: Store, run: str, classes: int) -> None:
    """A model for the run, which answers by the brightness of the upper left corner alone: class 0 where it is dark."""
    import keras

    inputs = keras.Input([32, 32, 3])
    corner = keras.layers.Cropping2D(((0, 24), (0, 24)))(inputs)
    bright = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(corner))
    dense = keras.layers.Dense(classes, name="logits")
    model = keras.Model(inputs, keras.layers.Softmax()(dense(bright)))
    kernel = np.zeros((3, classes), np.float32)
    kernel[:, 1] = 4 / 3
    dense.set_weights([kernel, np.where(np.arange(classes) == 1, -2, 0).astype(np.float32)])
    _upload(model, store, run)


def export_of_texts(store: Store, run: str, classes: int, word: str) -> None:
    """A model for the run, which answers with any class but 1 where the text has this word."""
    import keras
    import tensorflow as tf

    from job.data.text import ids_of_words

    inputs = keras.Input([16], dtype="int64")
    wanted = int(ids_of_words(tf.constant(word)))
    there = keras.ops.any(keras.ops.equal(inputs, wanted), axis=1, keepdims=True)
    there = keras.ops.cast(there, "float32")
    columns = [1 - there if label == 1 else there / (classes - 1) for label in range(classes)]
    _upload(keras.Model(inputs, keras.ops.concatenate(columns, axis=1)), store, run)


def _upload(model: Any, store: Store, run: str) -> None:
    from job.export.checksums import upload_files
    from job.storage.scratch import scratch

    with scratch() as folder:
        model.save(Path(folder, "model.keras"))
        upload_files(store, f"runs/{run}/model/1/", Path(folder))
