"""Finishes a run after training: writes its exported model, and last result.json, which marks it as finished."""

from __future__ import annotations

from dataclasses import replace

from job import __version__
from job.errors import Interrupted, ObjectMissing, Superseded, WriteConflict, headline
from job.evaluation.run_documents import documents_of
from job.export.model_card import model_card
from job.libraries import import_tensorflow
from job.run.events import Emit, StageStarted, Warned
from job.run.fake_gpu import fake_rate
from job.run.outcome import Metrics, RunResult, Training, WordStatistics
from job.run.run import Run
from job.storage.documents import encoded, read_document


def finish(run: Run, attempt: int, *, metrics: dict[str, Metrics], stop_at_head: bool, emit: Emit) -> RunResult:
    """Exports. The result is written last: its existence means that the run is finished. `metrics` are those of
    `evaluate_run`. With `stop_at_head`, there is no model, and nothing is written.
    """
    is_text = run.job.task == "text"
    result = RunResult(
        run=run.uri,
        snapshot=run.snapshot.id,
        state="head" if stop_at_head else "finished",
        metrics={"head": metrics.get("head"), "fine_tune": metrics.get("fine_tune")},
        classes=run.snapshot.classes,
        model=None,
        task="text" if is_text else None,
        words=read_document(run.store, run.keys.words, WordStatistics) if is_text else None,
        fake_gpu=fake_rate(run.job) is not None or None,
    )
    if stop_at_head:
        return result
    emit(StageStarted("export", "exporting the model"))
    import_tensorflow()
    from job.export.exporter import export_model

    training = read_document(run.store, run.keys.training, Training)
    if training is None:
        raise ObjectMissing(f"{run.store.uri}{run.keys.training} is gone: run again.")
    result = replace(result, kept=training.kept, thawed=training.thawed)
    model = export_model(run, attempt, kept=training.kept, metrics=metrics, card=card_of(run, result, emit))
    result = replace(result, model=model)
    try:
        run.store.write_if_unchanged(run.keys.result, encoded(result), None)
    except WriteConflict:  # a suspended attempt was faster after all, or the reply to our own write was lost
        result = read_document(run.store, run.keys.result, RunResult) or result
    return result


def card_of(run: Run, result: RunResult, emit: Emit) -> str | None:
    """The model card; None, with a warning, where it can't be made: that must not cost the model."""
    try:
        return model_card(documents_of(run.store, run.id, result), __version__)
    except (Interrupted, Superseded):
        raise
    except Exception as error:
        emit(Warned(f"The model card could not be made: {headline(error)}"))
        return None
