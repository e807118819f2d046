"""Whether what is exported answers as the network does, on real examples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from job.errors import JobError

SAME = ("keras", "saved_model")
"""Of each model: the network itself, loaded again."""
TOLERANCES = {"keras": 1e-4, "saved_model": 1e-4, "onnx": 1e-4, "tflite_float16": 3e-2}
"""The largest difference of a probability that is allowed: twice what was measured and more (docs/export.md). Where
another class is the most probable one, the two must be a tie to this tolerance.
"""
COARSE = 3e-2
"""The same of SAME where layers compute in bfloat16, of 8 bits, and round elsewhere where operations are fused."""
KEPT = (
    "install the versions of TensorFlow and Keras that Thaw asks for, or give model.backbone without layers that lose "
    "something when they are saved, and run again; what was trained is kept"
)
LEAST_AGREEMENT = 0.90
MOST_LOST = 0.02
"""Of tflite_int8: the share of examples that must keep their class, and the accuracy that may be lost. One example may
always differ, however few there are.
"""


@dataclass(frozen=True)
class Comparison:
    examples: int
    largest_difference: float
    """Of a probability; NaN where an answer is."""
    same_class: float
    """The share of examples whose most probable class is the same."""
    widest_tie: float
    """How much more probable Keras's class is to Keras, where the file has another one; 0 where it never has."""
    keras_accuracy: float
    accuracy: float
    """Of the file, on the same examples."""


def compare(keras: np.ndarray, file: np.ndarray, labels: np.ndarray) -> Comparison:
    """Of probabilities, float32 [n, classes] each, and the true classes, int [n]."""
    ours, theirs, rows = keras.argmax(axis=1), file.argmax(axis=1), np.arange(len(labels))
    return Comparison(
        len(labels),
        float(np.abs(keras - file).max()),
        float((ours == theirs).mean()),
        float((keras[rows, ours] - keras[rows, theirs]).max()),
        float((ours == labels).mean()),
        float((theirs == labels).mean()),
    )


def check(name: str, found: Comparison, coarse: bool = False) -> dict[str, Any]:
    """What was found, beside what is `allowed`; `coarse`: layers compute in bfloat16. Raises JobError where the file is
    not equal enough.
    """
    whom = "network that was trained" if name in SAME else "Keras model"
    if name in TOLERANCES:
        most = COARSE if coarse else TOLERANCES[name]
        allowed = {"largest_difference": most, "widest_tie": most}
        equal = found.largest_difference <= most and found.widest_tie <= most
        advice = KEPT if name in SAME else "use the SavedModel" if name == "onnx" else "use onnx"
    else:
        one = 1 / found.examples
        least = found.keras_accuracy - max(MOST_LOST, one)
        allowed = {"same_class": min(LEAST_AGREEMENT, 1 - one), "accuracy": least}
        equal = found.same_class >= allowed["same_class"] and found.accuracy >= least - 1e-9
        equal = equal and math.isfinite(found.largest_difference)
        advice = "use tflite_float16"
    if equal:
        return {**asdict(found), "allowed": allowed}
    bounds = ", ".join(f"{bound.replace('_', ' ')} {value:.3g}" for bound, value in allowed.items())
    raise JobError(
        f"{name}: not written, since it does not answer as the {whom}. On {found.examples} examples "
        f"probabilities differ by up to {found.largest_difference:.3g}, {found.same_class:.1%} keep their class, and "
        f"accuracy is {found.accuracy:.4f} instead of {found.keras_accuracy:.4f} (the bounds: {bounds}): {advice}."
    )
