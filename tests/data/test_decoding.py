from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from job.data.decoding import decode_image, inspect_image
from support.images import encode, picture


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_the_usual_formats_are_decoded(form: str) -> None:
    encoded = picture(3, "red", form=form)
    assert inspect_image(encoded, 10_000) is None
    image = decode_image(tf.constant(encoded), 32, "stretch")
    assert (image.shape, image.dtype) == ((32, 32, 3), tf.uint8)
    assert image.numpy()[:, :, 0].mean() > image.numpy()[:, :, 1].mean() + 20


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(1, "red"))).convert(mode).save(buffer, "PNG")
    assert decode_image(tf.constant(buffer.getvalue()), 16, "stretch").shape == (16, 16, 3)


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
        (b"just text, whatever the name says", "not an image"),
        (png_header(30_000, 30_000), "more than data.max_pixels"),
        (png_header(200, 200), "200×200 is more than data.max_pixels (10000)"),
        (picture(1, "red", form="TIFF"), "format TIFF is not supported (use PNG, JPEG, BMP, GIF, WEBP)"),
    ],
)
def test_what_cannot_be_an_image_is_told_from_its_header(encoded: bytes, reason: str) -> None:
    assert reason in str(inspect_image(encoded, 10_000))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_truncated_image_is_an_error_not_a_grey_picture(form: str) -> None:
    encoded = picture(1, "red", size=200, form=form)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(tf.constant(encoded[: len(encoded) // 2]), 32, "stretch")
