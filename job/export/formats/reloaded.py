"""model.keras and saved_model/, loaded again from the files just made: whether they answer as the trained network."""

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
from job.export.exported import Network, load_asked, probabilities_of
from job.export.formats.check import KEPT, Answers, check, compare
from job.export.formats.subject import in_bfloat16
from job.run.run import Run

CHECKED = 16
"""Test examples: each is read and decoded once more, and answered three times."""
MADE_UP = 4
"""Examples in their place, where the source has none of them any more."""


@dataclass(frozen=True)
class Encoded:
    examples: list[bytes]
    """As they lie in the source."""
    labels: np.ndarray
    """Index into the classes, int [n]."""


def examples_of(run: Run) -> Encoded:
    """The first test examples, without those that can't be read any more; made up ones where none can."""
    job = run.job
    table = predictions_table(run.store, run.id).slice(0, CHECKED)
    keys, labels = table["key"].to_pylist(), table["label"].to_numpy()
    source = open_source(job)
    originals = read_originals(job.data, source, run.store, run.snapshot, keys)
    there = [at for at, key in enumerate(keys) if isinstance(originals[key], bytes)]
    plain = form_of(job).plain
    found = [plain(one) for one in (originals[key] for key in keys) if isinstance(one, bytes)]
    return Encoded(found, labels[there]) if found else made_up(job, run.snapshot.classes)


def made_up(job: Job, classes: list[str]) -> Encoded:
    """Pictures of noise, or texts that name a class; the same each time. They are of class 0."""
    labels = np.zeros(MADE_UP, np.int32)
    if job.task == "text":
        return Encoded([f"{number} of the {classes[0]}".encode() for number in range(MADE_UP)], labels)
    noise = np.random.default_rng(0).integers(0, 256, [MADE_UP, *form_of(job).shape], np.uint8)
    return Encoded([tf.io.encode_png(pixels).numpy() for pixels in noise], labels)


def check_reloaded(job: Job, network: keras.Model, folder: Path, examples: Encoded) -> Network:
    """`model.keras`, loaded. Raises JobError where one of the two does not answer as `network`, which gives logits: see
    `check`.
    """
    form, coarse = form_of(job), in_bfloat16(network)
    decoded = np.stack([form.read(one) for one in examples.examples])
    inputs = tf.constant(decoded.astype(network.input.dtype))
    with _as_written():
        # In the same form as what is loaded: two ways to compute one network may round otherwise, and a deep one may
        # make much of that.
        logits = tf.function(network, autograph=False)(inputs, training=False).numpy()
        wanted = Answers(logits, tf.nn.softmax(logits).numpy())
        with _usable("keras"):
            reloaded = load_asked(folder / "model.keras")
            answers = {"keras": Answers(*(part.numpy() for part in reloaded(inputs)))}
        with _usable("saved_model"):
            answers["saved_model"] = _ask_saved_model(folder, [form.plain(one) for one in examples.examples])
    for name, file in answers.items():
        # That both are no numbers is told by the metrics.
        pairs = [_without_equal_nans(getattr(wanted, of), getattr(file, of)) for of in ("logits", "probabilities")]
        ours, theirs = (Answers(*of) for of in zip(*pairs, strict=True))
        check(name, compare(ours, theirs, examples.labels), coarse)
    return probabilities_of(reloaded)


def _without_equal_nans(wanted: np.ndarray, answered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    neither = np.isnan(wanted) & np.isnan(answered)
    return np.where(neither, 0, wanted), np.where(neither, 0, answered)


@contextmanager
def _usable(name: str) -> Iterator[None]:
    try:
        yield
    except ThawError:
        raise
    except Exception as error:  # whatever a layer raises that can't be made again
        raise JobError(f"{name}: not written, since it can't be used: {headline(error)}: {KEPT}.") from error


def _ask_saved_model(folder: Path, encoded: list[bytes]) -> Answers:
    """By both of its signatures, which call one function."""
    model = tf.saved_model.load(str(folder / "saved_model"))  # it holds what the signatures' function needs
    found = []
    for signature, output in (("logits", "logits"), ("serving_default", "probabilities")):
        serve = model.signatures[signature]
        (name,) = serve.structured_input_signature[1]
        found.append(serve(**{name: tf.constant(encoded)})[output].numpy())
    return Answers(*found)


@contextmanager
def _as_written() -> Iterator[None]:
    """Each operation as the graphs have it, with all of float32's bits. Without Grappler, which fuses some of them and
    takes longer than a few examples' answers do; and, on GPUs, without TensorFloat-32, which keeps 10 bits of a
    product's factors in some kernels, where other kernels may be chosen.
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
