"""The extract stage: Ray Data reads and decodes every example once, and runs the frozen base over it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from job.config import Job
from job.data.decoding import decode_image, inspect_image
from job.data.features import Shard, featurizer_id, read_complete, write_complete, write_shard
from job.data.snapshot import Snapshot, check_rejects, read_shard_rows
from job.errors import ObjectMissing, StorageError
from job.run.cluster import is_local
from job.storage import open_store

READERS = 8
"""Objects that one decoding task reads at a time."""
BATCH = 32
"""Images that the frozen base takes at a time."""


def features_id(job: Job, snapshot: Snapshot, base: dict[str, Any]) -> str:
    model = job.model.model_dump(mode="json", exclude={"head", "weights"})
    limits = {"max_pixels": job.data.max_pixels, "precision": job.train.precision}
    return featurizer_id({"snapshot": snapshot.id, "base": base, "model": model, **limits})


def extract(job: Job, snapshot: Snapshot, base: dict[str, Any], say: Callable[..., None]) -> tuple[str, list[Shard]]:
    """Makes the feature set complete and returns its id and shards. Raises DataError where too much is rejected."""
    import ray.data

    store = open_store(job.store)
    id = features_id(job, snapshot, base)
    shards = read_complete(store, id)
    if shards is None:
        ray.data.DataContext.get_current().enable_progress_bars = False
        config = {"job": job.model_dump(mode="json", by_alias=True), "snapshot": snapshot.key, "base": base, "id": id}
        workers = 1 if is_local() else job.scaling.workers
        tasks = ray.data.from_items([{"shard": i} for i in range(snapshot.shards)], override_num_blocks=snapshot.shards)
        actors = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        options: dict[str, Any] = {"fn_constructor_args": (config,), "compute": actors, "num_cpus": 1}
        decoded = tasks.map(Decode, **options)  # type: ignore[arg-type]
        written = decoded.map(Featurize, num_gpus=1 if job.scaling.gpu else 0, **options)  # type: ignore[arg-type]
        shards = []
        for row in written.iter_rows():
            shards.append(_finished(row))
            say("extract", done=sum(shard.rows for shard in shards), of=snapshot.examples)
        write_complete(store, id, shards)
    _check(shards, snapshot, job)
    return id, shards


def decode_rejects(shards: list[Shard]) -> list[tuple[str, str, str]]:
    """Key, label and reason of every example that could not be decoded."""
    return [reject for shard in shards for reject in shard.rejects]


class Decode:
    """Reads and decodes the examples of one shard of the snapshot: {shard} -> {shard, rows, images, rejects}."""

    def __init__(self, config: dict[str, Any]) -> None:
        import tensorflow as tf

        self.job, self.snapshot = Job.model_validate(config["job"]), config["snapshot"]
        self.source, self.store = open_store(self.job.data.source), open_store(self.job.store)
        size, resize = self.job.model.image_size, self.job.model.resize
        signature = [tf.TensorSpec([], tf.string)]
        self.decode = tf.function(lambda encoded: decode_image(encoded, size, resize), input_signature=signature)
        self.invalid = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.InternalError)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._shard(int(row["shard"]))
        except StorageError as error:
            return {"shard": row["shard"], "rows": None, "images": None, "rejects": "[]", "error": str(error)}

    def _shard(self, shard: int) -> dict[str, Any]:
        from job.data.snapshot import EXAMPLES_PER_SHARD

        table = read_shard_rows(self.store, self.snapshot, shard)
        with ThreadPoolExecutor(READERS) as pool:
            results = list(pool.map(self._example, table["key"].to_pylist()))
        rejects, images, rows = [], [], []
        for offset, (result, key, label) in enumerate(
            zip(results, *table.select(["key", "label"]).columns, strict=True)
        ):
            if isinstance(result, str):
                rejects.append((key.as_py(), label.as_py(), result))
            else:
                images.append(result)
                rows.append(shard * EXAMPLES_PER_SHARD + offset)
        size = self.job.model.image_size
        stacked = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
        rejected = json.dumps(rejects)
        return {"shard": shard, "rows": np.array(rows, np.int64), "images": stacked, "rejects": rejected, "error": ""}

    def _example(self, key: str) -> np.ndarray | str:
        """An image uint8 [S, S, 3], or the reason why there is none."""
        try:
            encoded = self.source.read(key)
        except ObjectMissing:
            return "deleted after it was listed"
        reason = inspect_image(encoded, self.job.data.max_pixels)
        if reason:
            return reason
        try:
            return self.decode(encoded).numpy()
        except self.invalid:
            return "broken image: its pixels can't be decoded (truncated?)"


class Featurize:
    """Runs the frozen base over a decoded shard and writes it: -> {shard, rows, sha256, rejects, error}."""

    def __init__(self, config: dict[str, Any]) -> None:
        import os

        from job.train.strategy import prepare_process

        job = Job.model_validate(config["job"])
        prepare_process(job, cpus=(os.cpu_count() or 1) if is_local() else 1)
        import tensorflow as tf

        from job.model.weights import ResolvedBase, load_base

        self.store, self.id = open_store(job.store), config["id"]
        base = load_base(job.model, self.store, ResolvedBase(**config["base"]))
        self.features = base.output_shape[-1]
        self.run = tf.function(lambda images: base(tf.cast(images, tf.float32), training=False))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["error"]:
            return {"shard": row["shard"], "rows": 0, "sha256": "", "rejects": "[]", "error": row["error"]}
        images = np.asarray(row["images"])
        rejects = [tuple(reject) for reject in json.loads(row["rejects"])]
        try:
            shard = write_shard(
                self.store, self.id, int(row["shard"]), np.asarray(row["rows"]), images, self._pooled(images), rejects
            )
        except StorageError as error:
            return {"shard": row["shard"], "rows": 0, "sha256": "", "rejects": "[]", "error": str(error)}
        return {**asdict(shard), "shard": shard.index, "rejects": row["rejects"], "error": ""}

    def _pooled(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, d]; batches are padded to one size, so that the network is compiled once."""
        results = [np.zeros((0, self.features), np.float32)]
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            padding = np.zeros((BATCH - len(part), *part.shape[1:]), part.dtype)
            results.append(self.run(np.concatenate([part, padding])).numpy()[: len(part)])
        return np.concatenate(results)


def _finished(row: dict[str, Any]) -> Shard:
    if row["error"]:
        raise StorageError(row["error"])
    rejects = [(key, label, reason) for key, label, reason in json.loads(row["rejects"])]
    return Shard(int(row["shard"]), int(row["rows"]), row["sha256"], rejects)


def _check(shards: list[Shard], snapshot: Snapshot, job: Job) -> None:
    """Rejects of the listing and of decoding count together."""
    rejects = decode_rejects(shards)
    per_class = Counter(snapshot.rejected_per_class) + Counter(label for _, label, _ in rejects)
    samples = {(label, reason): key for key, label, reason in reversed(rejects)}
    check_rejects(dict(per_class), samples, snapshot, job.data)
