"""The recipe as Keras's transfer-learning guide writes it: one process, a cached tf.data pipeline, `fit` twice."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers_recipe import BATCH, MODEL, Recipe, accuracy, build_model, thaw_top

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SPLITS = ("train", "validation", "test")
PREFETCH = 2


def run(recipe: Recipe, scratch: Path) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(recipe.seed)
    data = {split: dataset(recipe, split) for split in SPLITS}
    base, model = build_model(recipe.seed, scratch)
    seconds: dict[str, list[float]] = {}
    start = time.time()
    for phase, epochs, rate in recipe.phases():
        if phase == "fine_tune":
            thaw_top(base)
        seconds[phase] = fit(model, data, epochs, rate)
    return finish(model, data["test"], recipe, scratch, {"start": start, "end": time.time(), **seconds})


def dataset(recipe: Recipe, split: str) -> tf.data.Dataset:
    """Batches of images uint8 [n, S, S, 3] and labels, decoded once and kept in memory; train is shuffled anew."""
    return batches(decoded(recipe, split), recipe.seed if split == "train" else None)


def decoded(recipe: Recipe, split: str) -> tf.data.Dataset:
    """Images uint8 [S, S, 3] and labels, in the order of the split, kept in memory once they were read."""
    import tensorflow as tf

    from job.data.decoding import decode_image

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_image(tf.io.read_file(file), MODEL.image_size, MODEL.resize), label

    files = tf.data.Dataset.from_tensor_slices(recipe.examples(split))
    return files.map(read, num_parallel_calls=os.cpu_count()).cache()


def batches(examples: tf.data.Dataset, seed: int | None = None) -> tf.data.Dataset:
    """In their order or, with a seed, shuffled anew in each epoch."""
    import tensorflow as tf

    if seed is not None:
        examples = examples.shuffle(len(examples), seed=seed)
    options = tf.data.Options()
    options.autotune.enabled = False  # it can hold `fit` back for seconds after an epoch's last batch
    return examples.batch(BATCH).prefetch(PREFETCH).with_options(options)


def fit(model: keras.Model, data: dict[str, tf.data.Dataset], epochs: int, rate: float) -> list[float]:
    """One phase; what each epoch took, in seconds, with its validation."""
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    seconds: list[float] = []
    clock = _clock(seconds)
    model.fit(data["train"], validation_data=data["validation"], epochs=epochs, verbose=0, callbacks=[clock])
    return seconds


def finish(
    model: keras.Model, test: tf.data.Dataset, recipe: Recipe, scratch: Path, measured: dict[str, Any]
) -> dict[str, Any]:
    """Saves the whole model; what was measured, with its accuracy on the test split."""
    import numpy as np

    logits = model.predict(test, verbose=0)
    model.save(scratch / "model.keras")
    return {**measured, "accuracy": accuracy(logits, np.array(recipe.examples("test")[1]))}


def _clock(seconds: list[float]) -> keras.callbacks.Callback:
    """Appends what each epoch took, with its validation."""
    import keras

    begun: list[float] = []
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - begun[-1]),
    )
