"""What is made of a finished run: the page, the model card and the record.

runs/<run>/report/index.html, report/card.md, record.json
"""

from __future__ import annotations

from job.report.card import model_card
from job.report.documents import Documents, card_key, report_key
from job.report.page.render import render
from job.report.record import make_record, record_key, recorded_versions


def write_report(documents: Documents, versions: dict[str, str] | None = None) -> str:
    """Writes all three, and returns the page's URI. `versions`: of the libraries that the run was finished with, by
    default those that its record has.
    """
    store, run = documents.store, documents.run
    known = recorded_versions(store, run) if versions is None else versions
    record = make_record(documents, known)
    store.write(record_key(run), record.model_dump_json(indent=1).encode())
    store.write(card_key(run), model_card(documents, known.get("thaw")).encode())
    store.write(report_key(run), page_of(documents, known).encode())
    return f"{store.uri}{report_key(run)}"


def page_of(documents: Documents, versions: dict[str, str] | None = None) -> str:
    """The page alone: nothing is written."""
    return render(documents, recorded_versions(documents.store, documents.run) if versions is None else versions)
