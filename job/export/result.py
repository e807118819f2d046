"""Finishes a run after training: writes its exported model, and last result.json, which marks it as finished."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from job import __version__
from job.errors import Interrupted, ObjectMissing, Superseded, WriteConflict, headline
from job.evaluation.run_documents import documents_of
from job.export.model_card import model_card
from job.libraries import import_tensorflow
from job.run.events import Emit, StageStarted, Warned
from job.run.outcome import Training
from job.run.run import Run
from job.storage import read_json
from job.storage.documents import read_document


def finish(run: Run, attempt: int, *, metrics: dict[str, Any], stop_at_head: bool, emit: Emit) -> dict[str, Any]:
    """Exports. The result is written last: its existence means that the run is finished. `metrics` are those of
    `evaluate_run`.

    Returns {run, snapshot, state, metrics: {head, fine_tune}, classes, model}; with a model also `kept` and `thawed`,
    for texts also `task` and `words`. With `stop_at_head`, there is no model, and nothing is written.
    """
    result: dict[str, Any] = {
        "run": run.uri,
        "snapshot": run.snapshot.id,
        "state": "head" if stop_at_head else "finished",
        "metrics": {"head": metrics.get("head"), "fine_tune": metrics.get("fine_tune")},
        "classes": run.snapshot.classes,
        "model": None,
    }
    if run.job.task == "text":
        words = read_json(run.store, run.keys.words)
        result |= {"task": "text", **({"words": words} if words else {})}
    if stop_at_head:
        return result
    emit(StageStarted("export", "exporting the model"))
    import_tensorflow()
    from job.export.exporter import export_model

    training = read_document(run.store, run.keys.training, Training)
    if training is None:
        raise ObjectMissing(f"{run.store.uri}{run.keys.training} is gone: run again.")
    result |= {"kept": (kept := training.kept), "thawed": [asdict(verdict) for verdict in training.thawed]}
    result["model"] = export_model(run, attempt, kept=kept, metrics=metrics, card=card_of(run, result, emit))
    try:
        run.store.write_if_unchanged(run.keys.result, json.dumps(result, indent=1).encode(), None)
    except WriteConflict:  # a suspended attempt was faster after all, or the reply to our own write was lost
        result = json.loads(run.store.read(run.keys.result))
    return result


def card_of(run: Run, result: dict[str, Any], emit: Emit) -> str | None:
    """The model card; None, with a warning, where it can't be made: that must not cost the model."""
    try:
        return model_card(documents_of(run.store, run.id, result), __version__)
    except (Interrupted, Superseded):
        raise
    except Exception as error:
        emit(Warned(f"The model card could not be made: {headline(error)}"))
        return None
