from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from job.data.decoding import EXTENSIONS, UNREADABLE, decode_image
from job.data.pictures import FORMATS, inspect_image
from support.images import encode, picture


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def test_stretch_agrees_with_pillow_to_one_step_of_256() -> None:
    encoded = encode(np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8))
    wanted = np.asarray(Image.open(io.BytesIO(encoded)).resize((32, 32), Image.Resampling.BICUBIC), int)
    got = decode_image(tf.constant(encoded), 32, "stretch").numpy().astype(int)
    assert np.abs(got - wanted).max() <= 1


def test_crop_keeps_the_central_square() -> None:
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[5:75, 45:115] = 255
    image = decode_image(tf.constant(encode(pixels)), 70, "crop").numpy()
    assert image.min() == 255


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty object"),
        (b"just text, whatever the name says", "not an image: it is text"),
        (png_header(30_000, 30_000), "30000×30000 is more than data.max_pixels (10000)"),
        (png_header(200, 200), "200×200 is more than data.max_pixels (10000)"),
    ],
)
def test_what_cannot_be_an_image_is_told_from_its_header(encoded: bytes, reason: str) -> None:
    assert reason in str(inspect_image(encoded, 10_000))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_truncated_image_is_an_error_not_a_grey_picture(form: str) -> None:
    encoded = picture(1, "red", size=200, form=form)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(encoded[: len(encoded) // 2]), 32, "stretch")


def test_each_name_of_pictures_is_of_those_that_can_be_read_or_of_those_that_can_not() -> None:
    """Pillow's names of what it reads, but for those of several kinds of files."""
    Image.init()
    named = {name[1:] for name, form in Image.registered_extensions().items() if form in FORMATS}
    assert named - {"pfm"} <= EXTENSIONS
    assert not EXTENSIONS & UNREADABLE
    assert all(name == name.lower().strip(".") for name in EXTENSIONS | UNREADABLE)
