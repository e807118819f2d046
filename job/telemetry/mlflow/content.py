"""What MLflow is told of a finished run: params, metrics and tags, within its limits on names and lengths."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from job.config import Job
from job.config.base import Section
from job.config.task import OF_PICTURES, OF_TEXTS
from job.evaluation.run_documents import Documents
from job.report.record import run_uuid

LONGEST = 6000
"""Characters of a param's value; longer ones are cut."""
NO_PARAMS = ("card", "mlflow")
"""Sections that say nothing of how a run was made."""
CURVES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "seconds": "train/seconds",
    "validation_loss": "validation/loss",
    "validation_accuracy": "validation/accuracy",
}
"""By the name of an epoch's figure in training.json."""
TESTED = ("accuracy", "balanced_accuracy", "roc_auc", "loss")
IDENTITY = "thaw.uuid"
"""The tag by which a run of Thaw is found in MLflow."""


@dataclass(frozen=True)
class Point:
    """The value of a metric at a step, which is an epoch, counted through both phases."""

    name: str
    value: float
    step: int


def params(job: Job) -> dict[str, str]:
    """The job file's settings, defaults filled in, by their paths (`train.batch_size`). What a user has named, such as
    the classes in `train.class_weights`, is in the value, as JSON.
    """
    settings: dict[str, str] = {}
    for name in type(job).model_fields:
        if name not in NO_PARAMS:
            settings |= _flat(job, name, "")
    others = {f"model.{name}" for name in (OF_TEXTS if job.task == "image" else OF_PICTURES)}
    return {path: text for path, text in settings.items() if path not in others}


def points(documents: Documents) -> list[Point]:
    """The curves, and at the last epoch what was measured on the test split: of each model, and of the one kept."""
    points_of_run, step = [], 0
    for phase in ("head", "fine_tune"):
        for epoch in documents.training.trained_epochs(phase):
            step += 1
            values = {name: getattr(epoch, key) for key, name in CURVES.items()}
            points_of_run += [Point(name, value, step) for name, value in values.items() if value is not None]
    for prefix, model in [("test", documents.kept), *((f"test/{model}", model) for model in documents.models)]:
        measured = documents.metrics[model]
        values = {name: value for name in TESTED if (value := getattr(measured, name)) is not None}
        points_of_run += [Point(f"{prefix}/{name}", value, step) for name, value in values.items()]
    return points_of_run


def tags(documents: Documents) -> dict[str, str]:
    result, promotion = documents.result, documents.promotion
    named = {
        IDENTITY: str(run_uuid(result.run)),
        "thaw.run": documents.run,
        "thaw.uri": result.run,
        "thaw.job": documents.job.name,
        "thaw.snapshot": documents.snapshot.id,
        "thaw.model": str(result.model),
        "thaw.kept": documents.kept,
        "mlflow.source.name": "thaw",
        "mlflow.source.type": "JOB",
    }
    return named | ({"thaw.promoted": json.dumps(promotion.promoted)} if promotion else {})


def _flat(section: Section, name: str, prefix: str) -> dict[str, str]:
    value, path = getattr(section, name), f"{prefix}{type(section).model_fields[name].alias or name}"
    if not isinstance(value, Section):
        plain = section.model_dump(mode="json", include={name}, by_alias=False)[name]
        return {path: _text(plain)}
    settings: dict[str, str] = {}
    for below in type(value).model_fields:
        settings |= _flat(value, below, f"{path}.")
    return settings


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
