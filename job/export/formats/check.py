"""Checks on real examples that exported files answer as the network does."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from job.errors import JobError

SAME = ("keras", "saved_model")
"""The files that every model has; they are checked against the trained network itself."""
TOLERANCES = {"keras": 1e-4, "saved_model": 1e-4, "onnx": 1e-4, "tflite_float16": 3e-2}
"""The largest allowed difference of a probability, at least twice the measured ones (docs/export.md). Where another
class is the most probable one, the two must be a tie within this tolerance.
"""
OF_LOGITS = {"keras": 1e-3, "saved_model": 1e-3, "onnx": 1e-3, "tflite_float16": 0.1, "tflite_int8": 0.5}
"""The largest allowed difference of a logit, as a share of `Agreement.logit_scale`. Logits show errors that saturated
probabilities, of 0 and 1, hide.
"""
COARSE = 3e-2
"""Both tolerances of SAME where layers compute in bfloat16: it has 8 bits, and fused operations round differently."""
KEPT = (
    "install the versions of TensorFlow and Keras that Thaw asks for, or give model.backbone without layers that lose "
    "something when they are saved, and run again; what was trained is kept"
)
LEAST_AGREEMENT = 0.90
MOST_LOST = 0.02
"""For tflite_int8: the least share of examples that keep their class, and the most accuracy that may be lost. One
example may always differ, however few there are.
"""


@dataclass(frozen=True)
class Answers:
    """The outputs of a network, float32 [n, classes] each."""

    logits: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Agreement:
    examples: int
    largest_difference: float
    """The largest difference of a probability; NaN where an answer is NaN."""
    largest_logit_difference: float
    """The largest difference of a logit, as a share of `logit_scale`; NaN where an answer is NaN."""
    logit_scale: float
    """The largest absolute value of Keras's logits, at least 1."""
    same_class: float
    """The share of examples whose most probable class is the same."""
    widest_tie: float
    """Where the file has another most probable class: the largest difference of Keras's probabilities for the two
    classes; 0 where it never has another one."""
    keras_accuracy: float
    accuracy: float
    """The accuracy of the file on the same examples."""


def compare(keras: Answers, file: Answers, labels: np.ndarray) -> Agreement:
    """Compares the answers of Keras and of a file. `labels` are the true classes, int [n]."""
    rows = np.arange(len(labels))
    ours, theirs = keras.probabilities.argmax(axis=1), file.probabilities.argmax(axis=1)
    scale = max(1.0, float(np.abs(keras.logits).max()))
    return Agreement(
        len(labels),
        float(np.abs(keras.probabilities - file.probabilities).max()),
        float(np.abs(keras.logits - file.logits).max()) / scale,
        scale,
        float((ours == theirs).mean()),
        float((keras.probabilities[rows, ours] - keras.probabilities[rows, theirs]).max()),
        float((ours == labels).mean()),
        float((theirs == labels).mean()),
    )


def check(name: str, agreement: Agreement, coarse: bool = False) -> dict[str, Any]:
    """The figures of the agreement, and the bounds that are `allowed`. `coarse` says that layers compute in bfloat16.
    Raises JobError where a figure is out of bounds.
    """
    whom = "network that was trained" if name in SAME else "Keras model"
    logits = COARSE if coarse else OF_LOGITS[name]
    equal = agreement.largest_logit_difference <= logits
    if name in TOLERANCES:
        most = COARSE if coarse else TOLERANCES[name]
        allowed = {"largest_difference": most, "widest_tie": most}
        equal = equal and agreement.largest_difference <= most and agreement.widest_tie <= most
        advice = KEPT if name in SAME else "use the SavedModel" if name == "onnx" else "use onnx"
    else:
        one_example = 1 / agreement.examples
        least = agreement.keras_accuracy - max(MOST_LOST, one_example)
        allowed = {"same_class": min(LEAST_AGREEMENT, 1 - one_example), "accuracy": least}
        equal = equal and agreement.same_class >= allowed["same_class"] and agreement.accuracy >= least - 1e-9
        equal = equal and math.isfinite(agreement.largest_difference)
        advice = "use tflite_float16"
    allowed["largest_logit_difference"] = logits
    if equal:
        return {**asdict(agreement), "allowed": allowed}
    bounds = ", ".join(f"{bound.replace('_', ' ')} {value:.3g}" for bound, value in allowed.items())
    raise JobError(
        f"{name}: not written, since it does not answer as the {whom}. On {agreement.examples} examples "
        f"probabilities differ by up to {agreement.largest_difference:.3g}, {agreement.same_class:.1%} keep their "
        f"class, logits, of up to {agreement.logit_scale:.3g}, differ by up to "
        f"{agreement.largest_logit_difference:.3g} times that, and accuracy is {agreement.accuracy:.4f} instead of "
        f"{agreement.keras_accuracy:.4f} (the bounds: {bounds}): {advice}."
    )
