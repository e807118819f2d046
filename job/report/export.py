"""The exported model: image bytes in, class names and probabilities out, preprocessing inside.

model.keras           pixels 0…255, float32 [n, S, S, 3] -> probabilities [n, classes]
saved_model/          encoded images, string [n] -> {class, probabilities}
weights.safetensors   every variable by path
labels.json           classes in the order of the probabilities; image size and resizing
metrics.json          what was measured on the test split
files.json            the sha256 of each of these files
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load, save_file

from job.config import Job
from job.data.decoding import decode_image
from job.model.heads import build_head
from job.model.network import Network, build_network, variables_by_path
from job.model.weights import ResolvedBase, load_base
from job.report.manifest import upload_files
from job.storage import Store
from job.storage.scratch import scratch


def export_model(
    job: Job,
    store: Store,
    run: str,
    attempt: int,
    classes: list[str],
    base: ResolvedBase,
    kept: str,
    metrics: dict[str, Any],
) -> str:
    """Writes `runs/<run>/model/<attempt>/` and returns its URI. `kept` is `head` or `fine_tune`.

    Each attempt has a folder of its own: an upload that outlives its attempt, in a process that stood still, overwrites
    nothing. What attempts before this one left there is deleted.
    """
    prefix = f"runs/{run}/model/{attempt}/"
    network = trained_network(job, store, run, len(classes), base, kept)
    probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(network.model.output)
    model = keras.Model(network.model.input, probabilities, name=job.name.replace("-", "_"))
    tensors = {path: np.asarray(v.numpy(), order="C") for path, v in variables_by_path(network.model).items()}
    labels = {"classes": classes, "image_size": job.model.image_size, "resize": job.model.resize}
    with scratch() as temporary:
        folder = Path(temporary)
        model.save(folder / "model.keras")
        _save_saved_model(model, job, classes, folder / "saved_model")
        save_file(tensors, folder / "weights.safetensors")
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
        (folder / "labels.json").write_text(json.dumps(labels, indent=1))
        upload_files(store, prefix, folder)
    _forget_before(store, f"runs/{run}/model/", attempt)
    return f"{store.uri}{prefix}"


def _forget_before(store: Store, prefix: str, attempt: int) -> None:
    """Deletes what attempts before this one exported there; never what a later one did."""
    for info in list(store.list(prefix)):
        number = info.key.removeprefix(prefix).partition("/")[0]
        if number.isdecimal() and int(number) < attempt:
            store.delete(info.key)


def trained_network(job: Job, store: Store, run: str, classes: int, base: ResolvedBase, kept: str) -> Network:
    """The base with its pretrained weights, and over them what the run trained."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(job.train.precision)
    try:
        loaded = load_base(job.model, store, base)
        head = build_head(loaded.output_shape[-1], job.model.head, classes, job.train.seed)
        network = build_network(loaded, head)
    finally:
        keras.config.set_dtype_policy(policy)
    name = "fine_tuned" if kept == "fine_tune" else "head"
    variables = variables_by_path(network.model)
    for path, value in load(store.read(f"runs/{run}/{name}.safetensors")).items():
        variables[path].assign(value)
    return network


def _save_saved_model(model: keras.Model, job: Job, classes: list[str], path: Path) -> None:
    names = tf.constant(classes)
    size, resize = job.model.image_size, job.model.resize
    pixels = tf.TensorSpec([size, size, 3], tf.uint8)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(lambda encoded: decode_image(encoded, size, resize), image, fn_output_signature=pixels)
        chances = model(tf.cast(images, tf.float32), training=False)
        return {"class": tf.gather(names, tf.argmax(chances, axis=1)), "probabilities": chances}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    archive.write_out(str(path), verbose=False)
