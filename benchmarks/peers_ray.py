"""The recipe as Ray's TensorFlow guide writes it: Ray Data into a TensorflowTrainer, the whole model in each worker.

Keras 3's `fit` fails under MultiWorkerMirroredStrategy, so the step is written out; all else is the guide's.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers_recipe import BATCH, MODEL, Recipe, accuracy, build_model, thaw_top

SPLITS = ("train", "validation", "test")
BLOCK = 128
"""Images of a block of Ray Data."""


def run(recipe: Recipe, scratch: Path) -> dict[str, Any]:
    from job.executors.ray.cluster import set_environment

    set_environment()
    import ray
    import ray.train
    from ray.train.tensorflow import TensorflowTrainer

    cpus = os.cpu_count() or 1
    ray.init(
        address="local",
        num_cpus=max(cpus, recipe.ray_workers) + 2,  # as Thaw: Ray Data never waits for a worker's
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    datasets = read_images(recipe, cpus)
    config = {
        "phases": list(recipe.phases()),
        "seed": recipe.seed,
        "scratch": str(scratch),
        "rows": {split: data.count() for split, data in datasets.items()},
        "threads": max(1, cpus // recipe.ray_workers),
    }
    trainer = TensorflowTrainer(
        train_worker,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=recipe.ray_workers, resources_per_worker={"CPU": config["threads"]}
        ),
        run_config=ray.train.RunConfig(name="peer", storage_path=str(scratch / "ray")),
        datasets=datasets,
        dataset_config=ray.train.DataConfig(datasets_to_split=["train", "validation"]),
    )
    trainer.fit()
    ray.shutdown()
    return json.loads((scratch / "measured.json").read_text())


def read_images(recipe: Recipe, cpus: int) -> dict[str, Any]:
    """A materialised Ray dataset of {image uint8 [S, S, 3], label} for each split."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True  # the splits are cut out by position
    items: list[dict[str, Any]] = []
    ends = []
    for split in SPLITS:
        files, labels = recipe.examples(split)
        order = np.random.default_rng(recipe.seed).permutation(len(files))
        items += [{"file": files[i], "label": labels[i]} for i in order]
        ends.append(len(items))
    rows = ray.data.from_items(items, override_num_blocks=-(-len(items) // BLOCK))
    tasks = ray.data.TaskPoolStrategy(size=cpus)
    images = rows.map(decode, compute=tasks, num_cpus=1).materialize()
    return dict(zip(SPLITS, images.split_at_indices(ends[:-1]), strict=True))


def decode(row: dict[str, Any]) -> dict[str, Any]:
    return {"image": _decoder()(row["file"]).numpy(), "label": row["label"]}


@functools.cache
def _decoder() -> Callable[[str], Any]:
    """Compiled once in each process."""
    import tensorflow as tf

    from job.data.decoding import decode_image

    return tf.function(
        lambda file: decode_image(tf.io.read_file(file), MODEL.image_size, MODEL.resize),
        input_signature=[tf.TensorSpec([], tf.string)],
    )


def train_worker(config: dict[str, Any]) -> None:
    os.environ["TF_USE_LEGACY_KERAS"] = "0"  # Ray asks for legacy Keras in its workers
    import keras
    import ray.train
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(config["threads"])
    keras.utils.set_random_seed(config["seed"])
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rank = ray.train.get_context().get_world_rank()
    scratch = Path(config["scratch"])
    with strategy.scope():
        base, model = build_model(config["seed"], scratch / f"worker-{rank}")
    seconds: dict[str, list[float]] = {}
    start = time.time()
    for phase, epochs, rate in config["phases"]:
        if phase == "fine_tune":
            thaw_top(base)
        with strategy.scope():
            optimizer = keras.optimizers.Adam(rate)
            optimizer.build(model.trainable_variables)
        train, validate = make_steps(strategy, model, optimizer)
        seconds[phase] = []
        for epoch in range(epochs):
            begun = time.perf_counter()
            loss = np.mean([train(*batch) for batch in batches("train", config, epoch)])
            sums = np.sum([validate(*batch) for batch in batches("validation", config, epoch)], axis=0)
            seconds[phase].append(time.perf_counter() - begun)
            metrics = {"loss": float(loss), "val_loss": sums[0] / sums[2], "val_accuracy": sums[1] / sums[2]}
            ray.train.report({"phase": phase, **{name: float(value) for name, value in metrics.items()}})
    if rank == 0:
        _finish(model, scratch, {"start": start, "end": time.time(), **seconds})


def make_steps(strategy: Any, model: Any, optimizer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(images, labels) of this worker -> the mean loss; and -> [sum of losses, right answers, examples]."""
    import tensorflow as tf

    variables = model.trainable_variables
    signature = [tf.TensorSpec([None, *model.input_shape[1:]], tf.uint8), tf.TensorSpec([None], tf.int64)]

    def replica_train(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses) / strategy.num_replicas_in_sync
        optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)
        return loss

    def replica_validate(images: Any, labels: Any) -> Any:
        logits = model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.cast(tf.argmax(logits, axis=1) == labels, tf.float32)
        return tf.stack([tf.reduce_sum(losses), tf.reduce_sum(right), tf.cast(tf.size(labels), tf.float32)])

    def over_workers(replica: Callable[..., Any]) -> Callable[..., Any]:
        def step(*batch: Any) -> Any:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica, batch), axis=None)

        return tf.function(step, input_signature=signature)

    return over_workers(replica_train), over_workers(replica_validate)


def batches(split: str, config: dict[str, Any], epoch: int) -> Iterator[tuple[Any, Any]]:
    """This worker's batches, the same number on every worker: Ray's equal split has dropped the rows left over.

    A worker that was given less repeats its last batch, because the others would wait for it for ever. `train` is drawn
    from a buffer that holds all of the worker's rows, as the other sides draw from the whole split.
    """
    import ray.train

    world_size = ray.train.get_context().get_world_size()
    size = BATCH // world_size
    shuffle = {"local_shuffle_buffer_size": config["rows"][split], "local_shuffle_seed": config["seed"] + epoch}
    shard = ray.train.get_dataset_shard(split)
    found = iter(shard.iter_tf_batches(batch_size=size, **(shuffle if split == "train" else {})))
    batch: Any = None
    for _ in range(-(-(config["rows"][split] // world_size) // size)):
        batch = next(found, batch)
        yield batch["image"], batch["label"]
    for _ in found:  # to the end, or the next epoch would wait
        pass


def _finish(model: Any, scratch: Path, measured: dict[str, Any]) -> None:
    """The accuracy on the test split, which is not divided among the workers."""
    import ray.train
    import tensorflow as tf

    predict = tf.function(lambda images: model(images, training=False), reduce_retracing=True)
    logits, labels = [], []
    for batch in ray.train.get_dataset_shard("test").iter_tf_batches(batch_size=BATCH):
        logits.append(predict(batch["image"]).numpy())
        labels.append(batch["label"].numpy())
    measured["accuracy"] = accuracy(np.concatenate(logits), np.concatenate(labels))
    model.save(scratch / "model.keras")
    (scratch / "measured.json").write_text(json.dumps(measured))
