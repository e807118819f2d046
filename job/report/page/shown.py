"""Single examples as the page shows them: a small picture or the first words, and what the network looked at."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from job.data.forms import form_of
from job.data.pictures import Unreadable
from job.evaluation.run_documents import Documents
from job.export.exported import PredictFunction, load_exported
from job.libraries import import_tensorflow
from job.report.examples import Opened, ShownAnswer, ShownExamples, answer_to, opened
from job.report.occlusion import hidden_squares, left_out_words
from job.storage import open_store
from job.wording import shortened

if TYPE_CHECKING:
    import tensorflow as tf

LOOKED = 6
"""How many mistakes are shown with what the network looked at."""
SIDE, LARGE = 160, 224
"""Pixels of the longer side of a thumbnail, and of a picture with what the network looked at."""
BUDGET = 60.0
"""Seconds after which what the network looked at is not computed for another example."""
HEAT = (214, 40, 40)


class Shown(NamedTuple):
    answer: ShownAnswer
    seen: Opened


@dataclass(frozen=True)
class Looked:
    shown: Shown
    picture: Image.Image | None
    """What the answer rests on is red."""
    words: list[tuple[str, float]]
    """For a text: each word, and by how much the probability of the answer falls without it."""
    explanation: str
    """What the picture or the words show, in a sentence."""

    @property
    def most(self) -> float:
        """What the word does that does most."""
        return max((fall for _, fall in self.words), default=0.0)


@dataclass(frozen=True)
class Shelf:
    mistakes: list[Shown]
    rights: list[Shown]
    looked: list[Looked]
    not_looked: str | None
    """Why there is nothing of what the network looked at."""


def shown_examples(documents: Documents, examples: ShownExamples) -> Shelf:
    """Asks the exported model where it looks at its worst mistakes."""
    mistakes, rights = (_shown(documents, examples, places) for places in (examples.mistakes, examples.rights))
    readable = [mistake for mistake in mistakes if mistake.seen.missing is None][:LOOKED]
    if not mistakes:
        return Shelf(mistakes, rights, [], "There is no mistake among the test examples.")
    if not readable:
        return Shelf(mistakes, rights, [], "None of the mistakes could be read from the source.")
    try:
        network = load_exported(open_store(documents.model))
        looked = _looked(network, documents, readable, originals=examples.originals)
    except Exception as error:  # a network that can't be asked here: the rest of the page is worth having
        return Shelf(mistakes, rights, [], f"The exported model could not be asked: {shortened(str(error), 200)}")
    return Shelf(mistakes, rights, looked, None)


def _shown(documents: Documents, examples: ShownExamples, places: list[int]) -> list[Shown]:
    form, task = form_of(documents.job), documents.job.task
    answers = [answer_to(documents, at) for at in places]
    return [Shown(answer, opened(examples.originals[answer.key], form, task=task, side=SIDE)) for answer in answers]


def data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _looked(
    network: PredictFunction, documents: Documents, mistakes: list[Shown], *, originals: dict[str, bytes | str]
) -> list[Looked]:
    import_tensorflow()
    import tensorflow as tf

    form, looked = form_of(documents.job), list[Looked]()
    started = time.monotonic()
    for shown in mistakes:
        if looked and time.monotonic() - started > BUDGET:
            break
        original = originals[shown.answer.key]
        assert isinstance(original, bytes)
        try:
            inputs = form.read(original)
        except Unreadable:
            continue
        label = documents.snapshot.classes.index(shown.answer.label)
        if shown.seen.text is None:
            looked.append(_on_picture(shown, inputs, hidden_squares(network, inputs, label)))
        else:
            words = _words(tf.constant(form.plain(original)), len(inputs))
            looked.append(_on_words(shown, words, left_out_words(network, inputs, label)))
    return looked


def _on_picture(shown: Shown, pixels: np.ndarray, falls: np.ndarray) -> Looked:
    """`pixels` uint8 [S, S, 3], `falls` float32 [g, g]."""
    heat = np.clip(falls / max(float(falls.max()), 0.01), 0, 1).astype(np.float32)
    wide = np.asarray(Image.fromarray(heat).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
    share = 0.65 * np.clip(wide, 0, 1)[:, :, None]
    mixed = Image.fromarray(np.round(pixels * (1 - share) + np.array(HEAT) * share).astype(np.uint8))
    mixed = mixed.resize((LARGE, LARGE), Image.Resampling.BICUBIC)
    row, column = (int(place) for place in np.unravel_index(falls.argmax(), falls.shape))
    fall = float(falls.max())
    if fall < 0.01:
        explanation = "No single part matters: hiding any of them leaves the answer as probable as it was."
    else:
        explanation = f"It rests most on the {_place(row, column, len(falls))}: without it, {_fall(shown, fall)}."
    return Looked(shown, mixed, [], explanation)


def _on_words(shown: Shown, words: list[str], falls: np.ndarray) -> Looked:
    pairs = [(word, float(fall)) for word, fall in zip(words, falls, strict=True)]
    word, fall = max(pairs, key=lambda pair: pair[1])
    if fall < 0.01:
        return Looked(shown, None, pairs, "No single word matters: without any of them the answer is as probable.")
    return Looked(shown, None, pairs, f"It rests most on “{shortened(word, 40)}”: without it, {_fall(shown, fall)}.")


def _fall(shown: Shown, fall: float) -> str:
    chance = shown.answer.chance
    return f"the probability of the answer falls from {chance:.2f} to {max(chance - fall, 0):.2f}"


def _place(row: int, column: int, size: int) -> str:
    vertical = ("top", "middle", "bottom")[3 * row // size]
    horizontal = ("left", "centre", "right")[3 * column // size]
    return "middle" if (vertical, horizontal) == ("middle", "centre") else f"{vertical} {horizontal}"


def _words(encoded: tf.Tensor, most: int) -> list[str]:
    from job.data.text import words_of

    return [word.decode(errors="replace") for word in words_of(encoded, most).numpy()]
