"""Where a network looks is found, by one that is known to look at one place alone."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from job.export.exported import load_exported
from job.report.occlusion import GRID, hidden_squares, left_out_words
from job.storage import open_store
from support import finished


def test_the_corner_that_the_answer_rests_on_is_found(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store/")
    finished.export(store, "run", classes=2)
    model = load_exported(open_store(f"{store.uri}runs/run/model/1/"))
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    falls = hidden_squares(model, pixels, label=1)
    assert falls.shape == (GRID, GRID)
    assert np.unravel_index(falls.argmax(), falls.shape) in {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert falls.max() > 0.2
    assert np.abs(falls[4:, 4:]).max() < 1e-6


def test_the_word_that_the_answer_rests_on_is_found() -> None:
    ids = keras.Input([6], dtype="int64")
    there = keras.ops.cast(keras.ops.any(keras.ops.equal(ids, 7), axis=1, keepdims=True), "float32")
    model = keras.Model(ids, keras.ops.concatenate([1 - there, there], axis=1))
    falls = left_out_words(model, np.array([3, 7, 5, 0, 0, 0]), label=1)
    assert falls.tolist() == [0, 1, 0]
    assert left_out_words(model, np.zeros(6, np.int64), label=1).tolist() == []
