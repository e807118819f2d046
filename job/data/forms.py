"""What an encoded example becomes before the network sees it: a picture its pixels, a text the ids of its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from job.config import Job
from job.data.decoding import decode_image, inspect_image
from job.data.encoding import as_utf8
from job.data.packed import FORMAT
from job.data.text import READING, TOKENISER, decode_text, inspect_text

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Form:
    tap: str
    """Its name among those of stored features: `image` or `words`."""
    dtype: str
    shape: tuple[int, ...]
    """Of one example."""
    meaning: dict[str, object]
    """All that determines the values, as JSON types."""
    inspect: Callable[[bytes], str | None]
    """Why an object can't be decoded, as far as its bytes tell; None where it may be."""
    decode: Callable[[tf.Tensor], tf.Tensor]
    """A scalar string tensor -> `dtype` `shape`, usable inside a tf.function; may raise tf.errors.OpError."""
    broken: str
    """What is said of an object that can't be decoded after all."""
    blank: str | None = None
    """What is said of one that becomes zeros alone, where it can't be used then."""
    plain: Callable[[bytes], bytes] = bytes
    """The bytes to be given to `decode`, of an object that `inspect` finds usable."""


INPUTS = ("image", "words")
"""The taps of all forms."""


def form_of(job: Job) -> Form:
    """The form of the job's examples."""
    if job.task == "text":
        return text_form(job.model.max_tokens, job.data.encoding if job.data.label_table.text is None else None)
    form = image_form(job.model.image_size, job.model.resize, job.data.max_pixels)
    if job.data.is_packed:
        form.meaning.update({"image": job.data.record_names.image, "records": FORMAT})
    return form


def form_described(labels: dict[str, Any], max_pixels: int) -> Form:
    """The form that an exported model takes, from its labels.json."""
    if labels.get("task") == "text":
        return text_form(labels["max_tokens"])
    return image_form(labels["image_size"], labels["resize"], max_pixels)


def image_form(size: int, resize: str, max_pixels: int) -> Form:
    return Form(
        "image",
        "uint8",
        (size, size, 3),
        # The last one decides which images are rejected.
        {"image_size": size, "resize": resize, "max_pixels": max_pixels},
        partial(inspect_image, max_pixels=max_pixels),
        partial(decode_image, size=size, resize=resize),
        "broken image: its pixels can't be decoded (truncated?)",
    )


def text_form(max_tokens: int, encoding: str | None = None) -> Form:
    """`encoding` is that of objects without a byte order mark; None is UTF-8."""
    meaning: dict[str, object] = {"max_tokens": max_tokens, "tokeniser": TOKENISER, "reading": READING}
    return Form(
        "words",
        "int64",
        (max_tokens,),
        {**meaning, "encoding": encoding} if encoding else meaning,
        partial(inspect_text, encoding=encoding),
        partial(decode_text, max_tokens=max_tokens),
        "broken text: it can't be decoded",
        "no words in it",
        partial(as_utf8, encoding=encoding),
    )
