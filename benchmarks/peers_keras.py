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

PREFETCH = 2


def run(recipe: Recipe, scratch: Path) -> dict[str, Any]:
    import keras
    import numpy as np

    keras.utils.set_random_seed(recipe.seed)
    data = {split: dataset(recipe, split) for split in ("train", "validation", "test")}
    base, model = build_model(recipe.seed, scratch)
    seconds: dict[str, list[float]] = {}
    start = time.time()
    for phase, epochs, rate in recipe.phases():
        if phase == "fine_tune":
            thaw_top(base)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        seconds[phase] = []
        clock = _clock(seconds[phase])
        model.fit(data["train"], validation_data=data["validation"], epochs=epochs, verbose=0, callbacks=[clock])
    end = time.time()
    logits = model.predict(data["test"], verbose=0)
    model.save(scratch / "model.keras")
    labels = np.array(recipe.examples("test")[1])
    return {"start": start, "end": end, **seconds, "accuracy": accuracy(logits, labels)}


def dataset(recipe: Recipe, split: str) -> tf.data.Dataset:
    """Batches of images uint8 [n, S, S, 3] and labels, decoded once and kept in memory; train is shuffled anew."""
    import tensorflow as tf

    from job.data.decoding import decode_image

    def read(file: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return decode_image(tf.io.read_file(file), MODEL.image_size, MODEL.resize), label

    files, labels = recipe.examples(split)
    data = tf.data.Dataset.from_tensor_slices((files, labels)).map(read, num_parallel_calls=os.cpu_count()).cache()
    if split == "train":
        data = data.shuffle(len(files), seed=recipe.seed)
    options = tf.data.Options()
    options.autotune.enabled = False  # it can hold `fit` back for seconds after an epoch's last batch
    return data.batch(BATCH).prefetch(PREFETCH).with_options(options)


def _clock(seconds: list[float]) -> keras.callbacks.Callback:
    """Appends what each epoch took, with its validation."""
    import keras

    begun: list[float] = []
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: begun.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: seconds.append(time.perf_counter() - begun[-1]),
    )
