"""Exports the model of a run: encoded images or texts in, class names and probabilities out, decoding included.

model.keras           pixels 0…255, float32 [n, S, S, 3] (or word ids, int64 [n, L]) -> probabilities [n, classes]
saved_model/          encoded images (or UTF-8 texts), string [n] -> {class, probabilities}; its signature `logits`
                      -> {logits}, of which the probabilities are the softmax
weights.safetensors   every variable by path
labels.json           classes in the order of the probabilities; settings of decoding: image size, …, or max_tokens
metrics.json          the metrics on the test split
card.md               the model card
files.json            the sha256 of each of these files
<format>/             the model in another format (see job.export.formats), where it was asked for
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load, save_file

from job.config import Job
from job.data.forms import form_of
from job.export.checksums import upload_files
from job.export.exported import compiled, remember
from job.export.formats.reloaded import check_reloaded, examples_of
from job.model.network import Network, variables_by_path
from job.model.networks import network_of_run
from job.model.refresh import refresh
from job.model.resolved import ResolvedBase
from job.run.outcome import Metrics
from job.run.run import Run
from job.run.strategy import precision
from job.storage import Store
from job.storage.run_keys import RunKeys
from job.storage.scratch import scratch

LOOKUPS = (keras.layers.IntegerLookup, keras.layers.StringLookup, keras.layers.TextVectorization)
"""Layers that hold tables beside their variables."""


def export_model(run: Run, attempt: int, *, kept: str, metrics: dict[str, Metrics], card: str | None) -> str:
    """Writes `runs/<run>/model/<attempt>/` and returns its URI. `kept` is `head` or `fine_tune`; `card` is Markdown, or
    None without a card. Raises JobError, and writes nothing, where the exported files answer differently from the
    trained network.

    Each attempt has its own folder, so that a late upload of an earlier attempt, in a process that was suspended,
    overwrites nothing. The folders of earlier attempts are deleted.
    """
    job, store, classes = run.job, run.store, run.snapshot.classes
    prefix = run.keys.model(attempt)
    network = trained_network(job, store, run.id, classes=len(classes), base=run.base, kept=kept)
    with scratch() as folder:
        write_model(job, network.model, classes, metrics=metrics, card=card, folder=Path(folder))
        reloaded = check_reloaded(job, network.model, Path(folder), examples=examples_of(run))
        upload_files(store, prefix, Path(folder))
    remember(f"{store.uri}{prefix}", reloaded)
    _forget_before(store, run.keys.models, attempt)
    return f"{store.uri}{prefix}"


def write_model(
    job: Job, network: keras.Model, classes: list[str], *, metrics: dict[str, Metrics], card: str | None, folder: Path
) -> None:
    """Writes the files of the exported model, except files.json; the outputs of `network` are logits."""
    probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(network.output)
    model = keras.Model(network.input, probabilities, name=job.name.replace("-", "_"))
    tensors = {path: np.asarray(v.numpy(), order="C") for path, v in variables_by_path(network).items()}
    labels = {"classes": classes, **_decoding(job)}
    model.save(folder / "model.keras")
    _save_saved_model(model, job, classes, path=folder / "saved_model")
    save_file(tensors, folder / "weights.safetensors")
    (folder / "metrics.json").write_text(
        json.dumps({name: asdict(measured) for name, measured in metrics.items()}, indent=1)
    )
    if card is not None:
        (folder / "card.md").write_text(card, encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(labels, indent=1))


def _forget_before(store: Store, prefix: str, attempt: int) -> None:
    """Deletes the exports of attempts before this one, never those of later ones."""
    for info in list(store.list(prefix)):
        number = info.key.removeprefix(prefix).partition("/")[0]
        if number.isdecimal() and int(number) < attempt:
            store.delete(info.key)


def trained_network(job: Job, store: Store, run: str, *, classes: int, base: ResolvedBase, kept: str) -> Network:
    """The network of a run: the base with its pretrained weights, and all weights that the run has trained."""
    with precision(job):
        network = network_of_run(job, store, run, resolved=base, classes=classes)
    name = "fine_tuned" if kept == "fine_tune" else "head"
    variables = variables_by_path(network.model)
    for path, value in load(store.read(RunKeys(run).weights(name))).items():
        variables[path].assign(value)
    refresh(network.model)
    return network


def _decoding(job: Job) -> dict[str, Any]:
    if job.task == "text":
        return {"task": "text", "max_tokens": job.model.max_tokens}
    return {"image_size": job.model.image_size, "resize": job.model.resize, "value_range": job.data.value_range}


def _save_saved_model(model: keras.Model, job: Job, classes: list[str], *, path: Path) -> None:
    names, form = tf.constant(classes), form_of(job)
    decoded, taken = tf.TensorSpec(form.shape, form.dtype), tf.TensorSpec([None], tf.string, name=job.task)
    ask = compiled(model)

    @tf.function(input_signature=[taken], autograph=False)
    def answer(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inputs = tf.map_fn(form.decode, encoded, fn_output_signature=decoded)
        return ask(tf.cast(inputs, model.input.dtype))

    def serve(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        _, chances = answer(encoded)
        return {"class": tf.gather(names, tf.argmax(chances, axis=1)), "probabilities": chances}

    def logits(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": answer(encoded)[0]}

    signatures = {"serving_default": serve, "logits": logits}
    kept = tf.Module()  # with Keras's layers in it, the file is twice as large
    kept.variables_and_tables = (
        [variable.value for variable in model.variables],
        [layer for layer in model.layers if isinstance(layer, LOOKUPS)],
    )
    traced = {name: tf.function(of, autograph=False).get_concrete_function(taken) for name, of in signatures.items()}
    tf.saved_model.save(kept, str(path), signatures=traced)
