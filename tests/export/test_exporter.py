"""What an attempt makes of the exports that are there."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from job.config.jobfile import parse_job
from job.export.exporter import _forget_before, _save_saved_model
from job.storage import open_store


def test_only_what_earlier_attempts_exported_is_deleted(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    keys = [f"runs/run/model/{name}" for name in ("1/a", "2/a", "2/saved_model/b", "10/a", "notes.txt")]
    for key in keys:
        store.write(key, b"x")
    _forget_before(store, "runs/run/model/", 2)
    assert sorted(info.key for info in store.list("runs/run/model/")) == sorted(keys[1:])


def test_a_layer_that_holds_a_table_is_exported_with_it(tmp_path: Path) -> None:
    text = "{name: any, task: text, data: {source: 'file:///'}, store: 'file:///', model: {max_tokens: 4, "
    job = parse_job(text + "backbone: 'file:///words.keras'}}")
    words = keras.Input([4], dtype="int64")
    known = keras.layers.IntegerLookup(vocabulary=[3, 5, 7])(words)
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8, 2)(known))
    model = keras.Model(words, keras.layers.Softmax()(pooled))
    _save_saved_model(model, job, ["a", "b"], path=tmp_path / "saved_model")
    serve = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    answers = serve(text=tf.constant(["some words"]))
    assert np.allclose(answers["probabilities"].numpy().sum(), 1)
