"""Whether what is exported answers as the network does, on real examples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from job.errors import JobError

SAME = ("keras", "saved_model")
"""Files that every model has: the network itself, loaded again."""
TOLERANCES = {"keras": 1e-4, "saved_model": 1e-4, "onnx": 1e-4, "tflite_float16": 3e-2}
"""The largest difference of a probability that is allowed: twice what was measured and more (docs/export.md). Where
another class is the most probable one, the two must be a tie to this tolerance.
"""
OF_LOGITS = {"keras": 1e-3, "saved_model": 1e-3, "onnx": 1e-3, "tflite_float16": 0.1, "tflite_int8": 0.5}
"""The largest difference of a logit that is allowed, as a part of `Agreement.logit_scale`. Probabilities of 0 and 1
stay what they are, however far a network is from what it should be; its logits do not.
"""
COARSE = 3e-2
"""Both of SAME where layers compute in bfloat16, of 8 bits, and round elsewhere where operations are fused."""
KEPT = (
    "install the versions of TensorFlow and Keras that Thaw asks for, or give model.backbone without layers that lose "
    "something when they are saved, and run again; what was trained is kept"
)
LEAST_AGREEMENT = 0.90
MOST_LOST = 0.02
"""For tflite_int8: the share of examples that must keep their class, and the accuracy that may be lost. One example may
always differ, however few there are.
"""


@dataclass(frozen=True)
class Answers:
    """A network's, float32 [n, classes] each."""

    logits: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Agreement:
    examples: int
    largest_difference: float
    """The largest difference of a probability; NaN where an answer is NaN."""
    largest_logit_difference: float
    """As a part of `logit_scale`; NaN where an answer is."""
    logit_scale: float
    """The largest of Keras's logits, without their signs; or 1, where all are smaller."""
    same_class: float
    """The share of examples whose most probable class is the same."""
    widest_tie: float
    """How much more probable Keras's class is to Keras, where the file has another one; 0 where it never has."""
    keras_accuracy: float
    accuracy: float
    """Accuracy of the file, on the same examples."""


def compare(keras: Answers, file: Answers, labels: np.ndarray) -> Agreement:
    """`labels`: the true classes, int [n]."""
    wanted, found, rows = keras.probabilities, file.probabilities, np.arange(len(labels))
    ours, theirs = wanted.argmax(axis=1), found.argmax(axis=1)
    scale = max(1.0, float(np.abs(keras.logits).max()))
    return Agreement(
        len(labels),
        float(np.abs(wanted - found).max()),
        float(np.abs(keras.logits - file.logits).max()) / scale,
        scale,
        float((ours == theirs).mean()),
        float((wanted[rows, ours] - wanted[rows, theirs]).max()),
        float((ours == labels).mean()),
        float((theirs == labels).mean()),
    )


def check(name: str, found: Agreement, coarse: bool = False) -> dict[str, Any]:
    """What was found, beside what is `allowed`; `coarse`: layers compute in bfloat16. Raises JobError where the file is
    not equal enough.
    """
    whom = "network that was trained" if name in SAME else "Keras model"
    logits = COARSE if coarse else OF_LOGITS[name]
    equal = found.largest_logit_difference <= logits
    if name in TOLERANCES:
        most = COARSE if coarse else TOLERANCES[name]
        allowed = {"largest_difference": most, "widest_tie": most}
        equal = equal and found.largest_difference <= most and found.widest_tie <= most
        advice = KEPT if name in SAME else "use the SavedModel" if name == "onnx" else "use onnx"
    else:
        one = 1 / found.examples
        least = found.keras_accuracy - max(MOST_LOST, one)
        allowed = {"same_class": min(LEAST_AGREEMENT, 1 - one), "accuracy": least}
        equal = equal and found.same_class >= allowed["same_class"] and found.accuracy >= least - 1e-9
        equal = equal and math.isfinite(found.largest_difference)
        advice = "use tflite_float16"
    allowed["largest_logit_difference"] = logits
    if equal:
        return {**asdict(found), "allowed": allowed}
    bounds = ", ".join(f"{bound.replace('_', ' ')} {value:.3g}" for bound, value in allowed.items())
    raise JobError(
        f"{name}: not written, since it does not answer as the {whom}. On {found.examples} examples "
        f"probabilities differ by up to {found.largest_difference:.3g}, {found.same_class:.1%} keep their class, "
        f"logits, of up to {found.logit_scale:.3g}, differ by up to {found.largest_logit_difference:.3g} times that, "
        f"and accuracy is {found.accuracy:.4f} instead of {found.keras_accuracy:.4f} (the bounds: {bounds}): {advice}."
    )
