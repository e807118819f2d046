"""Runs compared, as a page: one self-contained HTML file."""

from __future__ import annotations

from string import ascii_uppercase

from job.data.forms import form_of
from job.data.originals import read_originals
from job.evaluation.compare import Compared, Disagreement
from job.evaluation.intervals import METHODS
from job.report.examples import Opened, opened
from job.report.page.render import rendered
from job.report.page.shown import SIDE
from job.storage import open_store
from job.wording import METRICS, NAMES, points

MOST_SHOWN = 24
"""Examples that are shown."""


def comparison_page(compared: Compared) -> str:
    """HTML; a few examples are read from the source of the first run."""
    return rendered(
        "compare.html",
        compared=compared,
        sides=compared.sides,
        letters=ascii_uppercase,
        verdict=verdict(compared),
        methods=METHODS,
        labels=METRICS,
        names=NAMES,
        shown=_shown(compared),
    )


def verdict(compared: Compared) -> str:
    """In a sentence or two: which one is better, as far as the common test examples can tell."""
    sentences = []
    for letter, side in zip(ascii_uppercase, compared.sides, strict=False):
        gain = side.gains.get("accuracy")
        if gain is None:
            continue
        between = f"{points(gain.value)} points of accuracy ({points(gain.low)} to {points(gain.high)})"
        sure = "is better than A" if gain.low > 0 else "is worse than A" if gain.high < 0 else "can't be told from A"
        sentences.append(f"{letter} {sure}: {between}.")
    return " ".join(sentences)


def _shown(compared: Compared) -> list[tuple[Disagreement, Opened]]:
    first = compared.sides[0].documents
    chosen = compared.disagreements[:MOST_SHOWN]
    source = open_store(first.job.data.source, first.job.storage)
    originals = read_originals(
        first.job.data, source, first.store, snapshot=first.snapshot, keys=[example.key for example in chosen]
    )
    form = form_of(first.job)
    return [(example, opened(originals[example.key], form, task=first.job.task, side=SIDE)) for example in chosen]
