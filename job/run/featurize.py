"""The featurizers of the extract stage: inputs become what the frozen network makes of them, in the feature store."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from job.config import Job
from job.data.augment import augment_images, view_seeds
from job.data.features import ADDRESS, Featurizer, write_part
from job.data.forms import INPUTS
from job.errors import ThawError
from job.model.resolved import ResolvedBase
from job.run.actors import Actor
from job.run.cluster import is_local
from job.train.networks import base_of_store

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 32
"""Examples that the frozen network takes at a time."""


class Overflow(ThawError):
    """An activation is too large for float16; the stage is done again with another type."""


class Featurize(Actor[dict[str, Any]]):
    """Writes what decoded examples lack: a row of a Decoder -> {done, gone}. Raises Overflow."""

    def start(self, config: dict[str, Any]) -> None:
        from job.train.strategy import prepare_process

        self.job, self.featurizers = Job.model_validate(config["job"]), config["wanted"]
        prepare_process(self.job, cpus=(os.cpu_count() or 1) if is_local() else 1)
        import tensorflow as tf

        self.store = config["store"]
        dtypes = {featurizer.tap: featurizer.dtype for featurizer in self.featurizers if not featurizer.is_input}
        self.network: Any = self._network(config["base"], dtypes) if dtypes else None
        self.augment = tf.function(lambda images, seeds: augment_images(images, seeds, self.job.augment))

    def _network(self, base: dict[str, Any], dtypes: dict[str, str]) -> Any:
        """Inputs -> what is stored of each tap."""
        import keras
        import tensorflow as tf

        from job.model.cut import cut_named

        whole = base_of_store(self.job, self.store, ResolvedBase(**base))
        taps = {tap: whole.output if tap == "pooled" else cut_named(whole, tap).tensor for tap in dtypes}
        network = keras.Model(whole.input, taps)

        @tf.function
        def run(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            answers = network(tf.cast(inputs, whole.input.dtype), training=False)
            return {tap: _stored(answers[tap], dtypes[tap]) for tap in taps}

        return run

    def process(self, row: dict[str, Any]) -> dict[str, Any]:
        inputs, hashes, needs = row["inputs"], row["hashes"], row["needs"]
        addresses = np.frombuffer(row["addresses"], ADDRESS)
        rejects = [(base64.b64decode(address), why) for address, why in json.loads(row["rejects"])]
        for view in sorted({featurizer.view for featurizer in self.featurizers}):
            mine = [i for i, featurizer in enumerate(self.featurizers) if featurizer.view == view]
            lacking = np.flatnonzero(needs[:, mine].any(axis=1)) if len(needs) else np.empty(0, np.int64)
            values = self._values(inputs[lacking], hashes[lacking], view)
            for i in mine:
                featurizer = self.featurizers[i]
                wanted = np.flatnonzero(needs[lacking, i]) if len(lacking) else np.empty(0, np.int64)
                refused = [] if view else rejects
                if not len(wanted) and not refused:
                    continue
                chosen = values[featurizer.tap][wanted] if len(wanted) else _nothing(featurizer)
                if featurizer.dtype == "float16" and not np.isfinite(chosen).all():
                    raise Overflow(f"activations at {featurizer.tap} are too large for float16")
                stored = np.ascontiguousarray(addresses[lacking][wanted])
                write_part(self.store, featurizer, stored, chosen, refused)
        return {"done": row["done"], "gone": row["gone"]}

    def _values(self, inputs: np.ndarray, hashes: np.ndarray, view: int) -> dict[str, np.ndarray]:
        """Every tap of these inputs, by name; batches are padded to one size, so that the network is compiled once."""
        results: dict[str, list[np.ndarray]] = {tap: [inputs] for tap in INPUTS}
        for start in range(0, len(inputs) if self.network else 0, BATCH):
            part = inputs[start : start + BATCH]
            padded = np.concatenate([part, np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)])
            if view:
                padded = self.augment(padded, view_seeds(np.resize(hashes[start : start + BATCH], BATCH), view))
            for tap, value in self.network(padded).items():
                results.setdefault(tap, []).append(value.numpy()[: len(part)])
        return {tap: np.concatenate(parts) for tap, parts in results.items()}


def _stored(value: tf.Tensor, dtype: str) -> Any:
    """As it is stored; bfloat16, which NumPy has not, as the same bits."""
    import tensorflow as tf

    cast = tf.cast(value, dtype)
    return tf.bitcast(cast, tf.uint16) if dtype == "bfloat16" else cast


def _nothing(featurizer: Featurizer) -> np.ndarray:
    return np.empty((0, *featurizer.shape), featurizer.storage)
