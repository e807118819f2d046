"""Batches: a tf.data pipeline that gathers examples from a mapped file, with no Python but once in many steps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from job.config import Augment
from job.data import order
from job.data.arena import Arena
from job.data.augment import augment_images, view_seeds
from job.data.dataset import Dataset

CHUNK = 32
"""Steps that are planned together; the parts that the next chunk needs are fetched meanwhile."""
PREFETCH = 4
"""Batches that are read ahead of the step."""


def fresh_view(seed: int, stream: int) -> int:
    """A view that no other epoch draws, and that is none of those that are stored."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 | 2**62


class Batches:
    """Reads batches of one feature set; the pipeline is made once, and used by every epoch.

    `augment` changes the images that are read, as the view says that an epoch draws.
    """

    def __init__(self, arena: Arena, data: Dataset, share: order.Share, augment: Augment | None = None) -> None:
        self._arena, self._data, self._share, self._augment = arena, data, share, augment
        self._examples, self._view, self._first = np.empty(0, np.int64), 0, 0
        self._failed: Exception | None = None
        self._pipeline = self._build()

    def read(self, examples: np.ndarray, view: int = 0, first: int = 0) -> Iterator[tuple[tf.Tensor, ...]]:
        """This worker's part of each global batch over `examples` (positions in the data set, int64 [n], in order),
        from step `first` on.

        Elements: inputs [size, …] as they are stored, labels int32 [size], weights float32 [size] (divided by their sum
        over the global batch, 0 where padded), places in the global batch int32 [size], and int64 [2]: the sum of the
        ids that were read, and how many of them are not those of the examples meant. One reading at a time.
        """
        self._examples, self._view, self._first, self._failed = examples, view, first, None
        return iter(self._pipeline)

    @property
    def spec(self) -> tf.TypeSpec:
        """The type of `read`'s iterators."""
        return tf.data.IteratorSpec(self._pipeline.element_spec)

    def error(self, error: tf.errors.OpError) -> Exception:
        """What made a reading fail, of which tf.data makes a text."""
        return self._failed or error

    def _build(self) -> tf.data.Dataset:
        values, ids = _tensor(self._arena.values), _tensor(self._arena.ids)
        stored, augment = self._arena.dtype, self._augment

        def gather(
            chosen: Any, meant: Any, present: Any, labels: Any, weights: Any, places: Any, *seeds: Any
        ) -> tuple[Any, ...]:
            inputs = tf.gather(values, chosen)
            if stored == "bfloat16":
                inputs = tf.bitcast(inputs, tf.bfloat16)
            if augment is not None:
                inputs = augment_images(inputs, seeds[0], augment)
            read = tf.where(present, tf.gather(ids, chosen), tf.zeros([], tf.int64))
            wrong = tf.math.count_nonzero(tf.logical_and(present, read != meant))
            return inputs, labels, weights, places, tf.stack([tf.reduce_sum(read), wrong])

        types: tuple[Any, ...] = (np.int32, np.int64, np.bool_, np.int32, np.float32, np.int32)
        signature = [tf.TensorSpec([None, self._share.size], dtype) for dtype in types]
        if augment is not None:
            signature.append(tf.TensorSpec([None, self._share.size, 2], tf.int32))
        planned = tf.data.Dataset.from_generator(self._plans, output_signature=tuple(signature))
        options = tf.data.Options()
        options.autotune.enabled = False
        options.deterministic = True
        steps = planned.unbatch().map(gather, num_parallel_calls=2, deterministic=True)
        return steps.prefetch(PREFETCH).with_options(options)

    def _plans(self) -> Iterator[tuple[np.ndarray, ...]]:
        try:
            yield from self._chunks()
        except Exception as error:
            self._failed = error
            raise

    def _chunks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The plan of CHUNK steps at a time, once their examples are on this node."""
        arena, data, examples, share, view = self._arena, self._data, self._examples, self._share, self._view
        steps = order.steps_per_epoch(len(examples), share.global_batch_size)
        firsts = list(range(self._first, steps, CHUNK))

        def needed(number: int) -> np.ndarray:
            if not 0 <= number < len(firsts):
                return np.empty(0, np.int64)
            places = share.places(len(examples), firsts[number], min(CHUNK, steps - firsts[number]))[0]
            return examples[places[places >= 0]]

        for number, first in enumerate(firsts):
            arena.wait(needed(number))
            arena.fetch(needed(number + 1))
            # A chunk is asked for when the one before it is under way; all before that is used up.
            arena.release(np.concatenate([needed(number + i) for i in (-1, 0, 1)]))
            in_order, places = share.places(len(examples), first, min(CHUNK, steps - first))
            present = in_order >= 0
            chosen = np.where(present, examples[np.maximum(in_order, 0)], examples[0]).astype(np.int32)
            weights = _weights(data, examples, share, first, in_order)
            plan = (chosen, data.ids[chosen], present, data.labels[chosen], weights, places)
            if self._augment is None:
                yield plan
            else:
                yield (*plan, view_seeds(data.hashes[chosen], view).reshape(*chosen.shape, 2))


def _weights(data: Dataset, examples: np.ndarray, share: order.Share, first: int, in_order: np.ndarray) -> np.ndarray:
    size = share.global_batch_size
    whole = data.weights[examples[first * size : (first + len(in_order)) * size]]
    sums = np.add.reduceat(whole, np.arange(0, len(whole), size))
    weights = data.weights[examples[np.maximum(in_order, 0)]] / sums[:, None]
    return np.where(in_order >= 0, weights, 0).astype(np.float32)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The pages of an array as a tensor, not a copy of them."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
