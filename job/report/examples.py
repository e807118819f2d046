"""The test examples that are shown of a finished run: which ones, and what is to be seen of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from job.data.forms import Form
from job.data.originals import read_originals
from job.data.pictures import Unreadable
from job.evaluation.intervals import confident_mistakes, right_answers
from job.evaluation.run_documents import Documents
from job.storage import open_store
from job.wording import shortened

MISTAKES, RIGHTS = 12, 12
"""How many are shown of each."""
TEXT = 300
"""Characters of a text."""


@dataclass(frozen=True)
class ShownExamples:
    mistakes: list[int]
    """Places among the answers; the most confident one first."""
    rights: list[int]
    originals: dict[str, bytes | str]
    """By key, the encoded example, or why it can't be had."""


@dataclass(frozen=True)
class Opened:
    """A picture, or the first words of a text, or why there is neither."""

    picture: Image.Image | None = None
    """RGB, as the network sees its colours; of an animation, the first frame."""
    text: str | None = None
    missing: str | None = None


def chosen_examples(documents: Documents) -> ShownExamples:
    """Reads them from the source."""
    predictions, kept = documents.predictions, documents.kept
    wrong = [int(at) for at in confident_mistakes(predictions, kept, MISTAKES)]
    right = [int(at) for at in right_answers(predictions, kept, RIGHTS, seed=documents.job.train.seed)]
    keys = [predictions.keys[at] for at in [*wrong, *right]]
    job, source = documents.job, open_store(documents.job.data.source, documents.job.storage)
    return ShownExamples(
        wrong, right, read_originals(job.data, source, documents.store, snapshot=documents.snapshot, keys=keys)
    )


class ShownAnswer(NamedTuple):
    """What the kept model answered to an example."""

    key: str
    truth: str
    label: str
    chance: float
    """The probability of the answer."""
    truth_chance: float
    """The probability of the true class."""


def answer_to(documents: Documents, at: int) -> ShownAnswer:
    """`at`: the example's place among the answers."""
    predictions, classes = documents.predictions, documents.snapshot.classes
    chances, label = predictions.chances[documents.kept][at], int(predictions.labels[at])
    answer = int(chances.argmax())
    given, true = float(chances[answer]), float(chances[label])
    return ShownAnswer(predictions.keys[at], classes[label], classes[answer], given, true)


def opened(original: bytes | str, form: Form, *, task: str, side: int) -> Opened:
    """`original` as in ShownExamples; `side`: most pixels of the longer side of a picture."""
    if isinstance(original, str):
        return Opened(missing=original)
    if task == "text":
        try:
            return Opened(text=shortened(form.plain(original).decode(errors="replace"), TEXT))
        except Unreadable as error:
            return Opened(missing=str(error))
    assert form.picture is not None
    try:
        small = form.picture(original)
    except Unreadable as error:
        return Opened(missing=str(error))
    small.thumbnail((side, side))
    return Opened(small)
