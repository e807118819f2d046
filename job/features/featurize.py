"""Computes features from inputs by the frozen network, once for each example and view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from job.data.augment import augment_images, view_seeds
from job.data.forms import INPUTS
from job.errors import ThawError
from job.features.extraction import Decoded, Extraction, NewPart
from job.features.store import Featurizer
from job.model.networks import base_of_store
from job.run.fake_gpu import check_fake, fake_features, fake_rate, fake_work

if TYPE_CHECKING:
    import tensorflow as tf

BATCH = 32
"""Examples that the frozen network takes at a time."""


class Overflow(ThawError):
    """An activation is too large for float16. The stage is repeated with bfloat16."""


class FrozenNetwork:
    """The layers below the cuts, as one compiled function of a batch: `batch` examples at a time."""

    def __init__(self, work: Extraction, cpus: int, batch: int = BATCH) -> None:
        from job.run.strategy import precision, prepare_process

        prepare_process(work.job, cpus)
        import tensorflow as tf

        self._featurizers, self._batch = work.featurizers, batch
        taps = {featurizer.tap: featurizer for featurizer in work.featurizers if not featurizer.is_input}
        rate = fake_rate(work.job)
        for featurizer in taps.values():
            check_fake(work.job, featurizer.meaning)
        self._network: Any = None
        if taps:
            with precision(work.job):
                self._network = self._compiled(work, taps) if rate is None else self._sleeping(taps, rate)
        self._augment = tf.function(
            lambda images, seeds: augment_images(images, seeds, work.job.augment), autograph=False
        )

    def _compiled(self, work: Extraction, featurizers: dict[str, Featurizer]) -> Any:
        """A compiled function: inputs -> the values to store, by tap."""
        import keras
        import tensorflow as tf

        from job.model.cut import cut_named

        whole = base_of_store(work.job, work.store, work.base)
        dtypes = {tap: featurizer.dtype for tap, featurizer in featurizers.items()}
        taps = {tap: whole.output if tap == "pooled" else cut_named(whole, tap).tensor for tap in dtypes}
        network = keras.Model(whole.input, taps)

        @tf.function(autograph=False)
        def run(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            answers = network(tf.cast(inputs, whole.input.dtype), training=False)
            return {tap: _stored(answers[tap], dtypes[tap]) for tap in taps}

        return run

    def _sleeping(self, featurizers: dict[str, Featurizer], rate: float) -> Any:
        """A function like that of `_compiled`, in place of it where GPUs are fake: so many examples a second."""
        import tensorflow as tf

        def run(inputs: np.ndarray | tf.Tensor) -> dict[str, tf.Tensor]:
            fake_work(len(inputs), rate)
            plain = np.asarray(inputs)
            return {
                tap: tf.constant(_stored(fake_features(plain, featurizer.shape), featurizer.dtype))
                for tap, featurizer in featurizers.items()
            }

        return run

    def parts(self, decoded: Decoded) -> list[NewPart]:
        """The parts with the features that these examples lack in the store. Raises Overflow."""
        inputs, hashes, needs = decoded.inputs, decoded.hashes, decoded.needs
        new_parts = []
        for view in sorted({featurizer.view for featurizer in self._featurizers}):
            of_view = [i for i, featurizer in enumerate(self._featurizers) if featurizer.view == view]
            lacking = np.flatnonzero(needs[:, of_view].any(axis=1)) if len(needs) else np.empty(0, np.int64)
            values = self._values(_at(inputs, lacking), hashes[lacking], view)
            for i in of_view:
                featurizer = self._featurizers[i]
                rows = np.flatnonzero(needs[lacking, i]) if len(lacking) else np.empty(0, np.int64)
                refused = [] if view else decoded.rejects
                if not len(rows) and not refused:
                    continue
                chosen = _at(values[featurizer.tap], rows) if len(rows) else _no_values(featurizer)
                if featurizer.dtype == "float16" and not np.isfinite(chosen).all():
                    raise Overflow(f"activations at {featurizer.tap} are too large for float16")
                stored = np.ascontiguousarray(decoded.addresses[lacking][rows])
                new_parts.append(NewPart(featurizer, stored, chosen, refused))
        return new_parts

    def _values(self, inputs: np.ndarray, hashes: np.ndarray, view: int) -> dict[str, np.ndarray]:
        """The values of every tap for these inputs, by name. Batches are padded to one size, so that the network is
        compiled once.
        """
        results: dict[str, list[np.ndarray]] = {}
        size = self._batch
        for start in range(0, len(inputs) if self._network else 0, size):
            part = inputs[start : start + size]
            padded: Any = part
            if len(part) < size:
                padded = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            if view:
                padded = self._augment(padded, view_seeds(np.resize(hashes[start : start + size], size), view))
            for tap, value in self._network(padded).items():
                results.setdefault(tap, []).append(value.numpy()[: len(part)])
        return {**dict.fromkeys(INPUTS, inputs), **{tap: np.concatenate(parts) for tap, parts in results.items()}}


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The values at these places (ascending); without a copy where these are all places."""
    return values if len(places) == len(values) else values[places]


def _stored(value: tf.Tensor, dtype: str) -> Any:
    """The value in its stored type. NumPy has no bfloat16: its bits are stored as uint16."""
    import tensorflow as tf

    cast = tf.cast(value, dtype)
    return tf.bitcast(cast, tf.uint16) if dtype == "bfloat16" else cast


def _no_values(featurizer: Featurizer) -> np.ndarray:
    return np.empty((0, *featurizer.shape), featurizer.storage)
