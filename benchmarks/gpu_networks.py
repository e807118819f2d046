"""The cases of gpu.py with networks: Thaw's own code beside bare loops of Keras and TensorFlow, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu_case import Case, Row, compared, in_turns, job_of

from job.config import Job
from job.config.training import UnfreezeMatch
from job.executors.placement import cpus_here
from job.features.cache_plan import Plan, featurizers
from job.features.extraction import Decoded, Extraction, NewPart
from job.features.featurize import FrozenNetwork
from job.features.store import ADDRESS, Featurizer
from job.libraries import import_tensorflow
from job.model.anatomy import anatomy_of
from job.model.networks import base_of_store, with_head
from job.model.resolved import ResolvedBase
from job.planning.epochs import RATE, ShortRun, shortened, time_epochs
from job.run.identity import prepare_base
from job.run.strategy import precision, prepare_process
from job.storage import Store, open_store
from job.storage.scratch import scratch

if TYPE_CHECKING:
    import tensorflow as tf

    from job.model.network import Network

CLASSES = 10
AHEAD = 4
"""Batches that the product reads ahead of its steps, and the bare loops too."""
READERS = 2
"""Batches that are gathered at a time, where any are read ahead."""
BYTES = 2
"""Bytes of a stored value."""
MOST = 2**30
"""Bytes of stored features that an epoch reads, at most, where that leaves it a step."""
EPOCHS = 2
"""The epochs of a bare loop that count, after one that compiles: as many as of the product's."""


@dataclass(frozen=True)
class Prepared:
    """A network that is ready, in this process."""

    job: Job
    store: Store
    base: ResolvedBase
    pooled: list[Featurizer]
    inputs: list[Featurizer]
    """What fine-tuning reads: the output at the cut."""
    thawed: tuple[str, ...]


def extraction(case: Case) -> list[Row]:
    """Examples a second from pixels to features, both sides to the memory of the host."""
    with scratch() as folder:
        prepared = prepare(case, folder)
        images = noise(case, case.batch * case.steps)
        frozen = FrozenNetwork(_work(prepared, prepared.pooled), cpus_here(), case.batch)
        run = bare_network(prepared, case.xla)
        decoded = _decoded(images, 1)

        def bare() -> np.ndarray:
            starts = range(0, len(images), case.batch)
            return np.concatenate([run(images[start : start + case.batch]).numpy() for start in starts])

        ours, theirs = frozen.parts(decoded)[0].values, bare()
        seconds = in_turns([lambda: frozen.parts(decoded), bare], case.rounds)
    difference = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-9)
    return [
        compared(
            case,
            "examples/s",
            {"Thaw": len(images) / seconds[0], "bare": len(images) / seconds[1]},
            more={"largest_difference": float(difference)},
            note="Thaw has no XLA here" if case.xla else "",
        )
    ]


def fine_tune(case: Case) -> list[Row]:
    """Steps a second of epochs that end with a validation on one batch: the trainer on stored features, beside a bare
    loop on the same features in memory, and one through the whole network from pixels.
    """
    with scratch() as folder:
        prepared = prepare(case, folder, fine_tune=True)
        job, images = prepared.job, noise(case, case.batch)
        parts = _features(prepared, images)
        cut, width = prepared.inputs[0].tap, prepared.inputs[0].bytes_per_example
        case = replace(case, steps=max(1, min(case.steps, MOST // (case.batch * width))))
        with precision(job):
            network = with_head(job, base_of_store(job, prepared.store, prepared.base), CLASSES)
            short = ShortRun(shortened(job, case.batch, prepared.thawed), *parts, cut, case.steps)
            ours = case.steps / time_epochs(short, network).each
            thawed = sum(bool(layer.trainable_variables) for layer in network.base.layers)
            assert thawed == len(prepared.thawed), f"{thawed} layers train, not {len(prepared.thawed)}"
            theirs = {
                "bare, same features": BareLoop(network, above_cut(network, cut), case).rate(parts[1].values),
                "bare, from pixels": BareLoop(network, whole(network), case).rate(images),
            }
    more = {"cut": cut, "layers_thawed": len(prepared.thawed), "steps_of_an_epoch": case.steps}
    return [compared(case, "steps/s", {"Thaw": ours, side: rate}, more=more) for side, rate in theirs.items()]


def prefetch(case: Case) -> list[Row]:
    """Steps a second of a bare loop on stored features, which reads ahead as the product does, or not at all."""
    from job.model.freezing import thaw

    with scratch() as folder:
        prepared = prepare(case, folder, fine_tune=True)
        cut, values = prepared.inputs[0].tap, _features(prepared, noise(case, case.batch))[1].values
        with precision(prepared.job):
            network = with_head(prepared.job, base_of_store(prepared.job, prepared.store, prepared.base), CLASSES)
            thaw(network.base, UnfreezeMatch(match=list(prepared.thawed)))
            loop = BareLoop(network, above_cut(network, cut), case)
            epochs = [loop.epoch(values, AHEAD), loop.epoch(values, 0)]
            seconds = in_turns(epochs, case.rounds)
    sides = dict(zip((f"{AHEAD} ahead", "none ahead"), (case.steps / each for each in seconds), strict=True))
    return [compared(case, "steps/s", sides, note="both bare: the product always reads ahead")]


def prepare(case: Case, folder: str, *, fine_tune: bool = False) -> Prepared:
    """Sets the process up as the product does, and stores the weights of the case's network."""
    job = job_of(case, folder, fine_tune=fine_tune)
    prepare_process(job, cpus_here())
    from job.model.cut import cheapest_cut, legal_cuts

    store = open_store(job.store)
    base, network = prepare_base(job, store, lambda event: None)
    plan, thawed = Plan(int(network.output_shape[-1])), tuple[str, ...]()
    if fine_tune:
        cut = cheapest_cut(legal_cuts(network), BYTES)
        assert cut is not None
        plan = Plan(plan.features, cut.layer, tuple(cut.tensor.shape[1:]), job.train.cache_dtype)
        thawed = anatomy_of(network, cut.layer).thawed
    return Prepared(job, store, base, *featurizers(job, base, plan), thawed)


def noise(case: Case, count: int) -> np.ndarray:
    """Images, uint8 [count, S, S, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, case.image_size, case.image_size, 3), np.uint8)


def bare_network(prepared: Prepared, xla: bool) -> Callable[[np.ndarray], tf.Tensor]:
    """One compiled function: images uint8 -> pooled features float32."""
    import_tensorflow()
    import tensorflow as tf

    with precision(prepared.job):
        base = base_of_store(prepared.job, prepared.store, prepared.base)

    @tf.function(jit_compile=xla, autograph=False)
    def run(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(base(tf.cast(images, base.input.dtype), training=False), tf.float32)

    return run


def above_cut(network: Network, cut: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The features of what is stored at the cut: bfloat16, whose bits are stored as uint16."""
    import tensorflow as tf

    from job.model.cut import cut_named, split

    suffix = split(network.base, cut_named(network.base, cut))[1]
    return lambda stored: suffix(tf.cast(tf.bitcast(stored, tf.bfloat16), suffix.input.dtype), training=False)


def whole(network: Network) -> Callable[[tf.Tensor], tf.Tensor]:
    """The features of images."""
    import tensorflow as tf

    return lambda images: network.base(tf.cast(images, network.base.input.dtype), training=False)


class BareLoop:
    """Fine-tunes as one would write it by hand: a step is one compiled function with Adam in it, fed by tf.data."""

    def __init__(self, network: Network, features: Callable[[tf.Tensor], tf.Tensor], case: Case) -> None:
        """Trains what is trainable in the network now."""
        import keras
        import tensorflow as tf

        from job.training.factory import trainable

        self._case, head = case, network.head
        variables = list(trainable(network.model).values())
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build(variables)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function(jit_compile=case.xla, autograph=False)
        def step(inputs: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            values = [variable.value for variable in variables]
            with tf.GradientTape(watch_accessed_variables=False) as tape:  # frozen layers get no gradients
                tape.watch(values)
                value = loss(labels, head(features(inputs), training=True))
            optimizer.apply(tape.gradient(value, values), variables)
            return value

        @tf.function(autograph=False)
        def predict(inputs: tf.Tensor) -> tf.Tensor:
            return head(features(inputs), training=False)

        self._step, self._predict = step, predict

    def rate(self, examples: np.ndarray) -> float:
        """Steps a second, of epochs on these examples."""
        epoch, seconds = self.epoch(examples, AHEAD), list[float]()
        for _ in range(1 + EPOCHS):
            began = time.perf_counter()
            epoch()
            seconds.append(time.perf_counter() - began)
        return self._case.steps / mean(seconds[1:])

    def epoch(self, examples: np.ndarray, ahead: int) -> Callable[[], None]:
        """Makes an epoch's steps on these examples, again and again, and validates one batch."""
        import tensorflow as tf

        batches = self._batches(examples, ahead)

        def run() -> None:
            value: Any = None
            for inputs, labels in batches:
                value = self._step(inputs, labels)
            value.numpy()
            self._predict(tf.constant(examples)).numpy()

        return run

    def _batches(self, examples: np.ndarray, ahead: int) -> tf.data.Dataset:
        """As many batches as an epoch has steps, each gathered anew from memory."""
        import tensorflow as tf

        with tf.device("CPU"):
            values = tf.constant(examples)
            labels = tf.constant(np.arange(len(examples)) % CLASSES, tf.int32)

        def gather(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = (tf.range(len(examples), dtype=tf.int64) + number) % len(examples)
            return tf.gather(values, chosen), tf.gather(labels, chosen)

        options = tf.data.Options()
        options.autotune.enabled = False
        steps = tf.data.Dataset.range(self._case.steps)
        if not ahead:
            return steps.map(gather).with_options(options)
        return steps.map(gather, num_parallel_calls=READERS).prefetch(ahead).with_options(options)


def _features(prepared: Prepared, images: np.ndarray) -> tuple[NewPart, NewPart]:
    """The pooled features of the images, and their output at the cut."""
    wanted = [*prepared.pooled, *prepared.inputs]
    frozen = FrozenNetwork(_work(prepared, wanted), cpus_here(), len(images))
    pooled, inputs = frozen.parts(_decoded(images, len(wanted)))
    return pooled, inputs


def _work(prepared: Prepared, wanted: list[Featurizer]) -> Extraction:
    return Extraction(prepared.job, "", prepared.base, wanted, [], prepared.store)


def _decoded(images: np.ndarray, featurizers: int) -> Decoded:
    """Images that lack all features."""
    return Decoded(
        inputs=images,
        addresses=np.zeros(len(images), ADDRESS),
        hashes=np.arange(len(images), dtype=np.uint64),
        needs=np.ones((len(images), featurizers), np.bool_),
        rejects=[],
        gone={},
        done=len(images),
    )
