"""Forms: how an encoded example becomes the input of the network. A picture becomes pixels, a text word ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from job.config import Job
from job.data.decoding import DECODING, Range, decode_image
from job.data.pictures import BROKEN, Unreadable, inspect_image, plain, read_picture
from job.data.sources.encoding import as_utf8
from job.data.sources.packed import FORMAT
from job.data.text import READING, TOKENISER, decode_text, inspect_text

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from PIL import Image


@dataclass(frozen=True)
class Form:
    tap: str
    """The name of this input among the stored features: `image` or `words`."""
    dtype: str
    shape: tuple[int, ...]
    """The shape of one example."""
    meaning: dict[str, object]
    """Everything that determines the values, as JSON types."""
    inspect: Callable[[bytes], str | None]
    """Takes the bytes of an object; returns why they can't be decoded, or None where no reason is known."""
    plain: Callable[[bytes], bytes]
    """Takes the bytes of an object; returns the bytes for `decode`. Raises Unreadable with the reason."""
    decode: Callable[[tf.Tensor], tf.Tensor]
    """A scalar string tensor -> `dtype` `shape`, usable inside a tf.function; may raise tf.errors.OpError."""
    broken: str
    """The reason for rejecting an object that `decode` can't decode."""
    blank: str | None = None
    """The reason for rejecting an object that becomes only zeros; None where zeros are a valid input."""
    picture: Callable[[bytes], Image.Image] | None = None
    """For pictures: decodes the whole picture to RGB, as a viewer shows it. Raises Unreadable."""

    def read(self, encoded: bytes) -> np.ndarray:
        """The network's input for one example, `dtype` `shape`. Raises Unreadable."""
        import tensorflow as tf

        try:
            return self.decode(tf.constant(self.plain(encoded))).numpy()
        except tf.errors.OpError as error:
            raise Unreadable(self.broken) from error


INPUTS = ("image", "words")
"""The taps of all forms."""


def form_of(job: Job) -> Form:
    """The form of the job's examples."""
    if job.task == "text":
        return text_form(job.model.max_tokens, job.data.encoding if job.data.label_table.text is None else None)
    form = image_form(job.model.image_size, job.model.resize, job.data.max_pixels, value_range=job.data.value_range)
    if job.data.is_packed:
        form.meaning.update({"image": job.data.record_names.image, "records": FORMAT})
    return form


def form_described(labels: dict[str, Any], max_pixels: int) -> Form:
    """The form that an exported model takes, from its labels.json."""
    if labels.get("task") == "text":
        return text_form(labels["max_tokens"])
    value_range = labels.get("value_range")
    return image_form(
        labels["image_size"], labels["resize"], max_pixels, value_range=value_range and tuple(value_range)
    )


def image_form(size: int, resize: str, max_pixels: int, *, value_range: Range | None = None) -> Form:
    return Form(
        "image",
        "uint8",
        (size, size, 3),
        {
            "decoding": DECODING,
            "image_size": size,
            "resize": resize,
            "max_pixels": max_pixels,  # it decides which images are rejected
            "value_range": value_range and list(value_range),
        },
        partial(inspect_image, max_pixels=max_pixels, value_range=value_range),
        partial(plain, max_pixels=max_pixels, value_range=value_range),
        partial(decode_image, size=size, resize=resize, value_range=value_range),
        BROKEN,
        picture=partial(read_picture, max_pixels=max_pixels, value_range=value_range),
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
        partial(_plain_text, encoding=encoding),
        partial(decode_text, max_tokens=max_tokens),
        "broken text: it can't be decoded",
        "no words in it",
    )


def _plain_text(encoded: bytes, encoding: str | None) -> bytes:
    """The text in UTF-8. Raises Unreadable."""
    if reason := inspect_text(encoded, encoding):
        raise Unreadable(reason)
    return as_utf8(encoded, encoding)
