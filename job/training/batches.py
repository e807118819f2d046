"""Batches: a tf.data pipeline that gathers examples from a mapped file, with no Python but once in many steps."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from job.config import Augment
from job.data import order
from job.data.augment import augment_images, view_seeds
from job.errors import TrainingError
from job.features.cache import FeatureCache
from job.features.dataset import Dataset

CHUNK = 32
"""Steps that are planned together; the parts that the next chunk needs are fetched meanwhile."""
PREFETCH = 4
"""Batches that are read ahead of the step."""


def fresh_view(seed: int, stream: int) -> int:
    """A view that no other epoch draws, and that is none of those that are stored."""
    digest = hashlib.blake2b(f"{seed}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 | 2**62


class Batches:
    """Reads batches of one feature set; the pipeline is made when it is first used, and serves every epoch.

    `augment` changes the images that are read, as the view says that an epoch draws. With `mixes` each example comes
    with another one.
    """

    def __init__(
        self,
        cache: FeatureCache,
        data: Dataset,
        share: order.WorkerShare,
        *,
        augment: Augment | None = None,
        mixes: bool = False,
    ) -> None:
        self._cache, self._data, self._share, self._augment, self._mixes = cache, data, share, augment, mixes
        self._examples, self._view, self._first = np.empty(0, np.int64), 0, 0
        self._kept: np.ndarray | None = None
        self._failed: Exception | None = None

    def read(
        self, examples: np.ndarray, *, view: int = 0, first: int = 0, kept: np.ndarray | None = None
    ) -> Iterator[tuple[tf.Tensor, ...]]:
        """This worker's part of each global batch over `examples` (positions in the data set, int64 [n], in order),
        from step `first` on.

        Elements: inputs [size, …] as they are stored, labels int32 [size], weights float32 [size] (divided by their sum
        over the global batch, 0 where padded), places in the global batch int32 [size], and int64 [2]: the sum of the
        ids that were read, and how many of them are not those of the examples meant. With `mixes`, before the last
        one: the other examples' inputs, labels and weights (divided by the same sum), and `kept`, what is to be kept of
        the first ones, of float32 [n] in the order of `examples`. One reading at a time.
        """
        self._examples, self._view, self._first, self._kept, self._failed = examples, view, first, kept, None
        return iter(self._pipeline)

    @property
    def spec(self) -> tf.TypeSpec:
        """The type of `read`'s iterators."""
        return tf.data.IteratorSpec(self._pipeline.element_spec)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """What made a reading fail is raised as it was; tf.data makes a text of it."""
        try:
            yield
        except tf.errors.OpError as error:
            raise self._failed or error from None

    @cached_property
    def _pipeline(self) -> tf.data.Dataset:
        values, ids = _tensor(self._cache.values), _tensor(self._cache.ids)
        stored, augment, mixes = self._cache.dtype, self._augment, self._mixes

        def inputs_of(chosen: Any, seeds: Any) -> Any:
            inputs = tf.gather(values, chosen)
            if stored == "bfloat16":
                inputs = tf.bitcast(inputs, tf.bfloat16)
            return inputs if augment is None else augment_images(inputs, seeds, augment)

        @tf.autograph.experimental.do_not_convert
        def gather(plan: dict[str, Any]) -> tuple[Any, ...]:
            inputs = inputs_of(plan["chosen"], plan.get("seeds"))
            read = tf.where(plan["present"], tf.gather(ids, plan["chosen"]), tf.zeros([], tf.int64))
            wrong = tf.math.count_nonzero(tf.logical_and(plan["present"], read != plan["meant"]))
            own = inputs, plan["labels"], plan["weights"], plan["places"]
            proof = tf.stack([tf.reduce_sum(read), wrong])
            if not mixes:
                return *own, proof
            others = inputs_of(plan["other_chosen"], plan.get("other_seeds"))
            return *own, others, plan["other_labels"], plan["other_weights"], plan["kept"], proof

        types: dict[str, Any] = {
            "chosen": np.int32, "meant": np.int64, "present": np.bool_, "labels": np.int32, "weights": np.float32,
            "places": np.int32,
        }  # fmt: skip
        if mixes:
            types |= {"other_chosen": np.int32, "other_labels": np.int32}
            types |= {"other_weights": np.float32, "kept": np.float32}
        signature = {name: tf.TensorSpec([None, self._share.size], dtype) for name, dtype in types.items()}
        if augment is not None:
            for name in ("seeds", "other_seeds") if mixes else ("seeds",):
                signature[name] = tf.TensorSpec([None, self._share.size, 2], tf.int32)
        planned = tf.data.Dataset.from_generator(self._plans, output_signature=signature)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.deterministic = True
        steps = planned.unbatch().map(gather, num_parallel_calls=2, deterministic=True)
        return steps.prefetch(PREFETCH).with_options(options)

    def _plans(self) -> Iterator[dict[str, np.ndarray]]:
        try:
            yield from self._chunks()
        except Exception as error:
            self._failed = error
            raise

    def _chunks(self) -> Iterator[dict[str, np.ndarray]]:
        """The plan of CHUNK steps at a time, once their examples are on this node."""
        cache, data, examples, share = self._cache, self._data, self._examples, self._share
        steps = order.steps_per_epoch(len(examples), share.global_batch_size)
        firsts = list(range(self._first, steps, CHUNK))

        def needed(number: int) -> np.ndarray:
            if not 0 <= number < len(firsts):
                return np.empty(0, np.int64)
            places = share.places(len(examples), firsts[number], min(CHUNK, steps - firsts[number]))[0]
            places = places[places >= 0]
            others = [order.mixup_partners(places, len(examples), share.global_batch_size)] if self._mixes else []
            return examples[np.concatenate([places, *others])]

        for number, first in enumerate(firsts):
            cache.wait(needed(number))
            cache.fetch(needed(number + 1))
            # A chunk is asked for when the one before it is under way; all before that is used up.
            cache.release(np.concatenate([needed(number + i) for i in (-1, 0, 1)]))
            in_order, places = share.places(len(examples), first, min(CHUNK, steps - first))
            size, present = share.global_batch_size, in_order >= 0
            whole = data.weights[examples[first * size : (first + len(in_order)) * size]]
            sums = np.add.reduceat(whole, np.arange(0, len(whole), size))[:, None]
            rows = self._rows(in_order, present, sums)
            plan = rows | {"meant": data.ids[rows["chosen"]], "present": present, "places": places}
            if self._mixes:
                assert self._kept is not None
                others = self._rows(order.mixup_partners(in_order, len(examples), size), present, sums)
                plan |= {f"other_{name}": array for name, array in others.items()} | {"kept": self._kept[in_order]}
            yield plan

    def _rows(self, in_order: np.ndarray, present: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
        """What is read at some places of the order: examples, labels, weights (0 where padded), seeds of the view."""
        data, examples = self._data, self._examples
        chosen = np.where(present, examples[in_order], examples[0]).astype(np.int32)
        weights = np.where(present, data.weights[chosen] / sums, 0).astype(np.float32)
        rows = {"chosen": chosen, "labels": data.labels[chosen], "weights": weights}
        if self._augment is not None:
            rows["seeds"] = view_seeds(data.hashes[chosen], self._view).reshape(*chosen.shape, 2)
        return rows


def proven(seen: tuple[int, int], ids: np.ndarray, where: str) -> str:
    """The digest of an epoch over examples with these ids: their sum, whatever their order and whoever read them.

    `seen` is the sum of what all of its batches say of themselves. Raises TrainingError, beginning with `where`.
    """
    read, wrong = np.array(seen, np.int64).astype(np.uint64).tolist()
    expected = int(ids.sum(dtype=np.int64).astype(np.uint64))
    if read != expected or wrong:
        raise TrainingError(
            f"{where}: the examples that were read (digest {read:016x}, {wrong} out of place) are not those of the "
            f"data set ({expected:016x}): delete the nodes' copies of the features (THAW_CACHE) and run again."
        )
    return f"{read:016x}"


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The pages of an array as a tensor, not a copy of them."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
