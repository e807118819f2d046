"""The learning curves: both phases on one axis, with the thaw."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup

from job.report.page.charts import Curve, accuracy_chart, loss_chart
from job.run.outcome import Training
from job.wording import plural

HEAD, TUNED = "head", "fine_tune"
CURVES = {
    "loss": ("s1", "training loss"),
    "validation_loss": ("s2", "validation loss"),
    "validation_accuracy": ("s2", "validation accuracy"),
}
"""The style of each curve, and its name."""


@dataclass(frozen=True)
class PlottedEpoch:
    phase: str
    epoch: int
    loss: float | None
    """None before the first step of fine-tuning, and where it is no number."""
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float | None
    seconds: float | None


@dataclass(frozen=True)
class Learning:
    loss: Markup | None
    accuracy: Markup | None
    thaws: list[str]
    """What the marks in both charts say, from left to right."""
    epochs: list[PlottedEpoch]
    description: str


def learning_of(training: Training) -> Learning:
    history = training.history
    thawed = [verdict.block for verdict in training.thawed]
    epochs: list[PlottedEpoch] = []
    curves: dict[str, list[Curve]] = {name: [] for name in CURVES}
    marks: list[tuple[float, str]] = []
    last = 0
    for phase in (HEAD, TUNED):
        for name, (style, label) in CURVES.items():  # a curve of each phase: fine-tuning begins at the best epoch
            curves[name].append(Curve(style, label, []))
        for record in history.get(phase, ()):
            before = record.loss is None
            last += not before
            if before and phase == TUNED:
                marks.append((last, f"{thawed[len(marks)]} thaws" if len(marks) < len(thawed) else "thaw"))
            values = {name: _finite(getattr(record, name)) for name in CURVES}
            for name, value in values.items():
                if value is not None:
                    curves[name][-1].points.append((last, value))
            rates = {name: _finite(getattr(record, name)) for name in ("learning_rate", "seconds")}
            epochs.append(PlottedEpoch(phase, record.epoch, **values, **rates))
    description = _description(training)
    named = "Learning curves: {} at each epoch. " + description
    losses = [*curves["loss"], *curves["validation_loss"]]
    return Learning(
        loss_chart(named.format("training and validation loss"), losses, marks),
        accuracy_chart(named.format("validation accuracy"), curves["validation_accuracy"], marks),
        [name for _, name in marks],
        epochs,
        description,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _description(training: Training) -> str:
    head = len(training.history.get(HEAD, ()))
    tuned = len(training.trained_epochs(TUNED))
    verdict = "had converged" if training.converged else "had not converged"
    text = f"The head {verdict} after {plural(head, 'epoch')}"
    if not tuned:
        return f"{text}; nothing was fine-tuned."
    return f"{text}, then the network thawed and {plural(tuned, 'epoch')} of fine-tuning followed."
