"""The page: one self-contained HTML file."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from job.data.splits import SPLITS
from job.evaluation.run_documents import Documents
from job.report.examples import ShownExamples
from job.report.page.freeze_diagram import STYLES
from job.report.page.gather import gather
from job.report.page.shown import data_uri
from job.report.svg import theme
from job.wording import NAMES, between, both_ends, counted, duration, metric, percent, plural, points, shortened

SECTIONS = {
    "quality": "Head only against fine-tuned",
    "learning": "Learning curves",
    "confusion": "Confusion",
    "classes": "By class",
    "calibration": "Calibration",
    "mistakes": "Most confident mistakes",
    "rights": "Right answers, a sample",
    "rejects": "Rejects",
    "data": "Data",
    "network": "What trained",
    "effort": "Time and cost",
    "job": "Job file, versions, seeds",
    "links": "Links",
}


def render(documents: Documents, examples: ShownExamples, versions: dict[str, str]) -> str:
    """HTML of a finished run; see `gather`."""
    titles = SECTIONS if len(documents.models) == 2 else {**SECTIONS, "quality": "How good it is"}
    return rendered(
        "page.html",
        documents=documents,
        page=gather(documents, examples, versions),
        titles=titles,
        sections=titles.items(),
        splits=SPLITS,
        styles=STYLES,
        names=NAMES,
    )


def rendered(template: str, **values: Any) -> str:
    """HTML of one of this folder's templates, with the styles that they share."""
    folder = files("job.report.page")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {word.__name__: word for word in (both_ends, data_uri, shortened)}
    words = (between, counted, duration, metric, percent, plural, points)
    environment.globals |= {word.__name__: word for word in words}
    css = Markup(theme() + folder.joinpath("page.css").read_text(encoding="utf-8"))
    return environment.from_string(folder.joinpath(template).read_text(encoding="utf-8")).render(css=css, **values)
