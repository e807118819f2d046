"""The recipe as a good user of Keras writes it by hand: features first.

One process. `base.predict` once over the training and validation images, whose pooled features are kept in memory;
`fit` of the head alone on them; then `fit` of the top block with the whole base inside, as in Keras's guide. The head
sees the very features that the guide's frozen base gives it in each epoch: there is no augmentation, and batch
normalization keeps its statistics.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peers_keras import SPLITS, batches, decoded, finish, fit
from peers_recipe import Recipe, build_model, thaw_top

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def run(recipe: Recipe, scratch: Path) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(recipe.seed)
    base, model = build_model(recipe.seed, scratch)
    images = {split: decoded(recipe, split) for split in SPLITS}
    features = {split: _features(base, images[split], recipe.examples(split)[1]) for split in ("train", "validation")}
    trained = {"head": (model.get_layer("head"), features), "fine_tune": (model, images)}
    seconds: dict[str, list[float]] = {}
    start = time.time()
    for phase, epochs, rate in recipe.phases():
        if phase == "fine_tune":
            thaw_top(base)
        part, examples = trained[phase]
        data = {"train": batches(examples["train"], recipe.seed), "validation": batches(examples["validation"])}
        seconds[phase] = fit(part, data, epochs, rate)
    measured = {"start": start, "end": time.time(), **seconds}
    return finish(model, batches(images["test"]), recipe, scratch, measured)


def _features(base: keras.Model, images: tf.data.Dataset, labels: list[int]) -> tf.data.Dataset:
    """Pooled features float32 [d] and labels, in the order of the images."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((base.predict(batches(images), verbose=0), labels))
