"""The predictions of a run for its test examples."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from job.evaluation.metrics import evaluate, softmax
from job.run.outcome import Metrics
from job.run.run import Run
from job.storage import Store, table_errors
from job.storage.run_keys import RunKeys


@dataclass(frozen=True)
class Predictions:
    keys: list[str]
    labels: np.ndarray
    """Indexes into the classes, int [n]."""
    chances: dict[str, np.ndarray]
    """Probabilities by model (`head`, `fine_tune`), float64 [n, classes]; equal ones where a logit is not finite."""

    def right(self, model: str) -> np.ndarray:
        """Which answers of the model are right, bool [n]."""
        return self.chances[model].argmax(axis=1) == self.labels


def read_predictions(store: Store, run: str) -> Predictions:
    table = predictions_table(store, run)
    names = [name.removeprefix("logits_") for name in table.column_names if name.startswith("logits_")]
    chances = {name: _chances(logits_of(table, name)) for name in names}
    return Predictions(table["key"].to_pylist(), table["label"].to_numpy(), chances)


def predictions_table(store: Store, run: str) -> pa.Table:
    """The table of the test examples: key, label, and the logits of each model. Raises ObjectMissing, StorageError."""
    key = RunKeys(run).predictions
    content = store.read(key)
    with table_errors(f"{store.uri}{key}"):
        table = pq.read_table(io.BytesIO(content))
    return table.filter(pc.equal(table["split"], "test"))


def logits_of(table: pa.Table, model: str) -> np.ndarray:
    """The logits of a model, float32 [n, classes]."""
    values = table[f"logits_{model}"].combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)


def _chances(logits: np.ndarray) -> np.ndarray:
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    return softmax(np.where(finite, logits, 0))


def evaluate_run(run: Run) -> dict[str, Metrics]:
    """The metrics on the test split of each model of a run that is trained: `head`, and `fine_tune`."""
    table = predictions_table(run.store, run.id)
    labels = table["label"].to_numpy()
    models = [name.removeprefix("logits_") for name in table.column_names if name.startswith("logits_")]
    return {name: evaluate(logits_of(table, name), labels) for name in models}
