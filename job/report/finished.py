"""What is made of a finished run: the page, the model card, the record, and what TensorBoard shows of its answers.

runs/<run>/report/index.html, report/card.md, record.json, tensorboard/…
"""

from __future__ import annotations

from collections.abc import Callable

from job.errors import Interrupted, Superseded, headline
from job.evaluation.run_documents import Documents, read_documents
from job.export.model_card import model_card
from job.report.answers_drawn import draw_answers
from job.report.curves import range_curves
from job.report.examples import chosen_examples
from job.report.page.render import render
from job.report.record import make_record, recorded_versions, versions_here
from job.run.events import Emit, StageStarted, Warned
from job.run.outcome import RunResult
from job.run.run import Run
from job.storage.run_keys import RunKeys


def report(run: Run, result: RunResult, emit: Emit) -> str | None:
    """Writes the report, and returns the page's URI; None where there is no model, or where the page can't be made,
    which is no reason to lose the run.
    """
    if result.model is None:
        return None
    emit(StageStarted("report", "making the report"))
    try:
        documents = read_documents(run.store, run.id)
        return write_report(documents, lambda text: emit(Warned(text)), versions_here())
    except (Interrupted, Superseded):
        raise
    except Exception as error:
        text = f"The report could not be made ({headline(error)}). The run is finished; `thaw report {run.uri}`"
        emit(Warned(f"{text} tries again."))
        return None


def write_report(documents: Documents, warn: Callable[[str], None], versions: dict[str, str] | None = None) -> str:
    """Writes all of it, and returns the page's URI. `versions`: of the libraries that the run was finished with, by
    default those that its record has. What TensorBoard lacks is no reason to lose the rest: `warn` is told.
    """
    store, run = documents.store, documents.run
    known = recorded_versions(store, run) if versions is None else versions
    record = make_record(documents, known)
    store.write(RunKeys(run).record, record.model_dump_json(indent=1).encode())
    if tests := documents.training.range_tests:
        store.write(RunKeys(run).range_tests, range_curves(tests))
    store.write(RunKeys(run).card, model_card(documents, known.get("thaw")).encode())
    examples = chosen_examples(documents)
    store.write(RunKeys(run).page, render(documents, examples, known).encode())
    try:
        draw_answers(documents, examples, warn)
    except (Interrupted, Superseded):
        raise
    except Exception as error:
        warn(f"The answers could not be drawn for TensorBoard: {headline(error)}")
    return f"{store.uri}{RunKeys(run).page}"


def page_of(documents: Documents, versions: dict[str, str] | None = None) -> str:
    """The page alone: nothing is written."""
    known = recorded_versions(documents.store, documents.run) if versions is None else versions
    return render(documents, chosen_examples(documents), known)
