"""`task`: the kind of a job's examples, and the settings that are valid for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from job.config.model import GLOVE
from job.config.training import UnfreezeWords

if TYPE_CHECKING:
    from job.config import Job

OF_PICTURES = ("image_size", "resize", "preprocessing")
OF_TEXTS = ("max_tokens", "encoder")
"""Settings of `model` for the task `text`; OF_PICTURES has those for `image`."""


def fill_in(document: Any) -> Any:
    """The job file, for texts with their own default of `unfreeze`, since word vectors are a single block."""
    if not isinstance(document, dict) or document.get("task") != "text":
        return document
    phases = document.get("phases", {})
    fine_tune = phases.get("fine_tune", {}) if isinstance(phases, dict) else None
    if not isinstance(fine_tune, dict) or "unfreeze" in fine_tune:
        return document
    return {**document, "phases": {**phases, "fine_tune": {**fine_tune, "unfreeze": {"blocks": 1}}}}


def check_task(job: Job) -> None:
    """Raises ValueError where a setting is for the other task."""
    model, table, fine_tune = job.model, job.data.label_table, job.phases.fine_tune
    for name in OF_PICTURES if job.task == "text" else OF_TEXTS:
        if getattr(model, name) != type(model).model_fields[name].default:
            raise ValueError(f"model.{name} means nothing for `task: {job.task}`: remove it")
    if fine_tune and isinstance(fine_tune.unfreeze, UnfreezeWords) and model.backbone != GLOVE:
        raise ValueError("phases.fine_tune.unfreeze.words is for `model.backbone: glove`")
    if job.data.encoding and job.data.layout != "table" and job.task == "image":
        raise ValueError("data.encoding is for label files and for texts: remove it")
    if job.task == "image":
        if model.backbone == GLOVE or table.text:
            raise ValueError(f"{'data.table.text' if table.text else 'model.backbone: glove'} is for `task: text`")
        return
    if model.backbone != GLOVE and "://" not in model.backbone:
        raise ValueError(f"model.backbone: texts take glove or the URI of a .keras file, not {model.backbone!r}")
    if model.backbone != GLOVE and model.encoder != "mean":
        raise ValueError("model.encoder is for `model.backbone: glove`: a .keras file has its own")
    if job.data.is_packed:
        raise ValueError(f"data.layout: texts are read from folders or a table, not from {job.data.layout}")
    if fine_tune and fine_tune.mixup:
        raise ValueError("phases.fine_tune.mixup: words can't be mixed; phases.head.mixup mixes their vectors")
    if job.augment.active:
        raise ValueError("augment changes pictures: remove it from a job of texts")
