"""Loads model.keras and saved_model/ from the new files, and checks that they answer as the trained network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from job.config import Job
from job.data.forms import form_of
from job.data.originals import read_originals
from job.data.source import open_source
from job.errors import JobError, ThawError, headline
from job.evaluation.predictions import predictions_table
from job.export.exported import PredictFunction, load_with_logits, probabilities_of
from job.export.formats.check import KEPT, Answers, check, compare
from job.export.formats.subject import in_bfloat16
from job.run.run import Run

CHECKED = 16
"""The number of test examples in the check. Each is read and decoded again, and answered three times."""
SYNTHETIC = 4
"""The number of synthetic examples in their place, where the source has none of them any more."""


@dataclass(frozen=True)
class Encoded:
    examples: list[bytes]
    """The encoded examples of the source."""
    labels: np.ndarray
    """Indexes into the classes, int [n]."""


def examples_of(run: Run) -> Encoded:
    """The first test examples that can still be read; synthetic ones where none can."""
    job = run.job
    table = predictions_table(run.store, run.id).slice(0, CHECKED)
    keys, labels = table["key"].to_pylist(), table["label"].to_numpy()
    source = open_source(job)
    originals = read_originals(job.data, source, run.store, snapshot=run.snapshot, keys=keys)
    there = [at for at, key in enumerate(keys) if isinstance(originals[key], bytes)]
    plain = form_of(job).plain
    readable = [plain(content) for content in (originals[key] for key in keys) if isinstance(content, bytes)]
    return Encoded(readable, labels[there]) if readable else synthetic_examples(job, run.snapshot.classes)


def synthetic_examples(job: Job, classes: list[str]) -> Encoded:
    """Synthetic examples, the same each time: pictures of noise, or texts that name a class. Their label is class 0."""
    labels = np.zeros(SYNTHETIC, np.int32)
    if job.task == "text":
        return Encoded([f"{number} of the {classes[0]}".encode() for number in range(SYNTHETIC)], labels)
    noise = np.random.default_rng(0).integers(0, 256, [SYNTHETIC, *form_of(job).shape], np.uint8)
    return Encoded([tf.io.encode_png(pixels).numpy() for pixels in noise], labels)


def check_reloaded(job: Job, network: keras.Model, folder: Path, *, examples: Encoded) -> PredictFunction:
    """The network loaded from `model.keras`. Raises JobError where that or the SavedModel answers differently from
    `network`, whose outputs are logits (see `check`).
    """
    form, coarse = form_of(job), in_bfloat16(network)
    decoded = np.stack([form.read(encoded) for encoded in examples.examples])
    inputs = tf.constant(decoded.astype(network.input.dtype))
    with _as_written():
        # A compiled function, like the loaded networks: other ways to compute a network may round differently, and deep
        # networks may amplify that.
        logits = tf.function(network, autograph=False)(inputs, training=False).numpy()
        trained = Answers(logits, tf.nn.softmax(logits).numpy())
        with _usable("keras"):
            reloaded = load_with_logits(folder / "model.keras")
            answers = {"keras": Answers(*(part.numpy() for part in reloaded(inputs)))}
        with _usable("saved_model"):
            answers["saved_model"] = _saved_model_answers(
                folder, [form.plain(encoded) for encoded in examples.examples]
            )
    for name, file in answers.items():
        # NaN in both answers is no difference here: the metrics show it.
        pairs = [_without_equal_nans(getattr(trained, of), getattr(file, of)) for of in ("logits", "probabilities")]
        ours, theirs = (Answers(*of) for of in zip(*pairs, strict=True))
        check(name, compare(ours, theirs, examples.labels), coarse)
    return probabilities_of(reloaded)


def _without_equal_nans(trained: np.ndarray, reloaded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    neither = np.isnan(trained) & np.isnan(reloaded)
    return np.where(neither, 0, trained), np.where(neither, 0, reloaded)


@contextmanager
def _usable(name: str) -> Iterator[None]:
    try:
        yield
    except ThawError:
        raise
    except Exception as error:  # whatever a layer raises that can't be made again
        raise JobError(f"{name}: not written, since it can't be used: {headline(error)}: {KEPT}.") from error


def _saved_model_answers(folder: Path, encoded: list[bytes]) -> Answers:
    """The answers of the SavedModel, by its two signatures, which call one function."""
    model = tf.saved_model.load(str(folder / "saved_model"))  # it holds what the signatures' function needs
    outputs = []
    for signature, output in (("logits", "logits"), ("serving_default", "probabilities")):
        serve = model.signatures[signature]
        (name,) = serve.structured_input_signature[1]
        outputs.append(serve(**{name: tf.constant(encoded)})[output].numpy())
    return Answers(*outputs)


@contextmanager
def _as_written() -> Iterator[None]:
    """While this is open, TensorFlow computes each operation as it is in the graph, with all bits of float32.

    It turns off Grappler, which fuses operations and would take longer than answering a few examples; and on GPUs
    TensorFloat-32, which keeps 10 bits of factors, in kernels that may be chosen differently each time.
    """
    tensor_float_32 = tf.config.experimental.tensor_float_32_execution_enabled()
    grappler = tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tensor_float_32)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": grappler})
