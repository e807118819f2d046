"""What training leaves in the store for the stages after it."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save

from job.features.dataset import Dataset
from job.run.outcome import DescribedBlock, Training
from job.storage import Store
from job.storage.documents import write_document
from job.storage.run_keys import RunKeys
from job.training.phases import Trained


def write_outputs(
    store: Store,
    run: RunKeys,
    trained: Trained,
    *,
    data: Dataset,
    keys: pa.ChunkedArray,
    blocks: list[DescribedBlock],
) -> None:
    """Writes the trained variables, the logits on validation and test, and last what was decided (training.json).

    `keys` are those of `trained.examples`; `blocks` describe the network, from the bottom to the top.
    """
    store.write(run.weights("head"), save(trained.head))
    if trained.fine_tuned is not None:
        store.write(run.weights("fine_tuned"), save(trained.fine_tuned))
    store.write(run.predictions, _predictions(trained, data, keys))
    models = {"head": trained.head, "fine_tune": trained.fine_tuned or {}}
    training = Training(
        kept=trained.kept,
        converged=trained.converged,
        history=trained.history,
        thawed=list(trained.thawed),
        range_tests=trained.progress.range_tests,
        blocks=blocks,
        parameters={phase: sum(value.size for value in tensors.values()) for phase, tensors in models.items()},
    )
    write_document(store, run.training, training)


def _predictions(trained: Trained, data: Dataset, keys: pa.ChunkedArray) -> bytes:
    """A Parquet file with a row for each example: key, split, label, the logits of each model."""
    splits = np.full(len(data.labels), "", object)
    for split, members in data.splits.items():
        splits[members] = split
    columns = {
        "key": keys,
        "split": pa.array(splits[trained.examples]),
        "label": pa.array(data.labels[trained.examples]),
        **{f"logits_{name}": pa.array(list(logits)) for name, logits in trained.logits.items()},
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()
