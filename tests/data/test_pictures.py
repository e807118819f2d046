"""Pictures of every kind become what people see in them, or are refused with a reason, which the plan knows."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from job.config import Data
from job.data.forms import image_form
from job.data.look import look
from job.data.pictures import Unreadable, inspect_image, plain, read_picture
from job.planning.headers import look_at
from job.planning.listing import Row
from job.storage import open_store
from support.kinds import (
    COLOURS,
    READ,
    REFUSED,
    SEVERAL,
    SIDE,
    WIDE,
    exif,
    masked_bmp,
    packed_grey,
    png,
    saved,
    tiff,
    wide_png,
)

MOST = 10_000
FORM = image_form(SIDE, "stretch", MOST)
decode = tf.function(FORM.decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
BEHIND = {"JPEG, CMYK without a marker", "PNG, transparency far behind", "PNG, turned"}
"""What the exported model's own decoding does not see in JPEG and PNG."""


def pgm(values: np.ndarray, highest: int) -> bytes:
    return b"P5\n# 12 bits\n32 32 %d\n" % highest + values.astype(">u2").tobytes()


def seen(encoded: bytes) -> np.ndarray:
    """By Pillow alone."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if picture.mode[0] == "I":
        twelve = picture.format is None and encoded[:2] == b"II" and struct.pack("<HHII", 258, 3, 1, 12) in encoded
        return np.dstack([np.asarray(picture) >> (4 if twelve else 8)] * 3).astype(np.uint8)
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("kind", READ)
def test_a_picture_is_decoded_into_what_is_seen_in_it(kind: str) -> None:
    encoded = READ[kind]()
    assert inspect_image(encoded, MOST) is None
    wanted = seen(encoded)
    np.testing.assert_array_equal(decode(FORM.plain(encoded)).numpy(), wanted)
    np.testing.assert_array_equal(np.asarray(read_picture(encoded, MOST)), wanted)
    assert look(encoded).pictures == SEVERAL.get(kind, 1)
    assert look(encoded).deep == (("16 bit" in kind and "BMP" not in kind) or "12 bit" in kind)
    if kind.startswith(("JPEG,", "MPO", "PNG")) and kind not in BEHIND:
        np.testing.assert_array_equal(decode(encoded).numpy(), wanted, "the exported model's own decoding")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_can_not_be_read_is_named(kind: str) -> None:
    encoded, reason = REFUSED[kind]
    told = inspect_image(encoded, MOST)
    assert told is not None
    assert told.startswith(reason)
    for read in (FORM.plain, FORM.read, FORM.picture):
        assert read is not None
        with pytest.raises(Unreadable) as raised:
            read(encoded)
        assert str(raised.value) == told


@pytest.mark.parametrize("kind", [kind for kind in READ if "bytes behind" not in kind and not kind.startswith("MPO")])
def test_half_a_picture_is_none(kind: str) -> None:
    encoded = READ[kind]()
    with pytest.raises(Unreadable):
        FORM.read(encoded[: len(encoded) // 2])


def test_the_plan_refuses_what_the_run_refuses(tmp_path: Path) -> None:
    source = open_store(f"file://{tmp_path}/source/")
    contents = {kind: make() for kind, make in READ.items()} | {kind: content for kind, (content, _) in REFUSED.items()}
    for kind, content in contents.items():
        source.write(kind, content)
    rows = [Row(info.key, info.size, info.version, "a") for info in source.list()]
    planned = look_at(Data(source=source.uri), FORM, source, rows=rows, most=8)
    run = {}
    for kind, content in contents.items():
        try:
            FORM.read(content)
        except Unreadable as error:
            run[kind] = str(error)
    assert run.keys() == REFUSED.keys()
    assert sum(planned.reasons.values()) == len(run)
    assert set(planned.reasons) == set(run.values())


def test_pictures_are_decoded_by_several_threads_as_by_one() -> None:
    contents = [make() for make in READ.values()] * 3
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(lambda one: plain(one, MOST), contents))
    assert at_once == [plain(one, MOST) for one in contents]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_central_square_is_that_of_the_picture_as_it_is_seen(orientation: int) -> None:
    """Where the sides are odd it is a pixel off, otherwise."""
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 256, (41, 57, 3), np.uint8))
    encoded = saved(stored, "JPEG", exif=exif(orientation), quality=95)
    plainly = saved(Image.fromarray(seen(encoded)), "PNG")
    form = image_form(36, "crop", MOST)  # 7/8 of 41: nothing is resized
    np.testing.assert_array_equal(form.read(encoded), form.read(plainly))


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round(np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)).astype(np.uint8)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda: wide_png(0, 1, WIDE >> 4), WIDE >> 4),
        (lambda: wide_png(2, 3, WIDE >> 4), WIDE >> 4),
        (lambda: saved(Image.fromarray(WIDE >> 4), "TIFF"), WIDE >> 4),
        (lambda: saved(Image.fromarray((WIDE / 16).astype(np.float32)), "TIFF"), WIDE / 16),
        (lambda: tiff(16, (WIDE >> 4).tobytes(), photometric=1), WIDE >> 4),
        (lambda: saved(Image.fromarray(WIDE >> 4), "JPEG2000"), WIDE >> 4),
        (lambda: pgm(WIDE >> 4, 4095), WIDE >> 4),
    ],
    ids=["PNG", "PNG of colours", "TIFF", "TIFF of floats", "TIFF without compression", "JPEG 2000", "PGM"],
)
def test_values_of_more_than_8_bits_are_scaled_from_their_range(make: Callable[[], bytes], values: np.ndarray) -> None:
    form = image_form(SIDE, "stretch", MOST, value_range=(100, 4000))
    wanted = scaled(values, 100, 4000).astype(int)
    assert np.abs(form.read(make()).astype(int) - wanted[..., None]).max() <= 1
    assert form.meaning != FORM.meaning


def test_colours_are_shown_in_their_range_as_far_as_pillow_knows_them() -> None:
    form = image_form(SIDE, "stretch", MOST, value_range=(0, 4095))
    for encoded in (wide_png(2, 3, WIDE >> 4), wide_png(4, 2, WIDE >> 4)):
        shown = np.asarray(read_picture(encoded, MOST, (0, 4095))).astype(int)
        assert np.abs(shown - form.read(encoded)).max() <= 255 / 16 + 1


def test_the_highest_value_of_a_pgm_is_white() -> None:
    assert FORM.read(pgm(np.full((SIDE, SIDE), 1000), 1000)).min() == 255
    assert look(pgm(WIDE >> 4, 4095)).values == (int(WIDE.min()) >> 4, int(WIDE.max()) >> 4, 12)


@pytest.mark.parametrize("chunks", [[], [(b"tEXt", b"a\0" + bytes(5000))]], ids=["near", "far behind"])
def test_a_transparent_colour_is_white_of_whatever_bits_it_is(chunks: list[tuple[bytes, bytes]]) -> None:
    steps = WIDE // 256 * 256
    level = int(steps[3, 4]).to_bytes(2, "big")
    grey, colours = (np.frombuffer(np.stack([steps] * n, -1).astype(">u2").tobytes(), np.uint8) for n in (1, 3))
    for encoded, transparent in (
        (packed_grey(2, *chunks, (b"tRNS", b"\0\1")), np.arange(SIDE * SIDE) % 4 == 1),
        (packed_grey(4, *chunks, (b"tRNS", b"\0\7")), np.arange(SIDE * SIDE) % 16 == 7),
        (png(16, 0, grey.reshape(SIDE, -1), *chunks, (b"tRNS", level)), (steps == steps[3, 4]).ravel()),
        (png(16, 2, colours.reshape(SIDE, -1), *chunks, (b"tRNS", 3 * level)), (steps == steps[3, 4]).ravel()),
    ):
        found = FORM.read(encoded)
        assert (found.reshape(-1, 3)[transparent] == 255).all()
        assert (found.reshape(-1, 3)[~transparent] != 255).any()
        np.testing.assert_array_equal(np.asarray(read_picture(encoded, MOST)), found)


def test_a_range_changes_no_picture_of_8_bits() -> None:
    form = image_form(SIDE, "stretch", MOST, value_range=(0, 4095))
    for kind in ("JPEG", "PNG, RGB", "PNG, palette, transparent", "WebP, transparent", "TIFF, palette", "PGM"):
        encoded = READ[kind]()
        np.testing.assert_array_equal(form.read(encoded), FORM.read(encoded), kind)


def test_colours_that_would_lose_their_range_are_refused() -> None:
    encoded = tiff(16, np.stack([WIDE] * 3, -1).tobytes(), photometric=2, channels=3)
    assert inspect_image(encoded, MOST) is None
    assert "16 bits are scaled from data.value_range in PNG alone" in str(inspect_image(encoded, MOST, (0, 4095)))


@pytest.mark.parametrize("value_range", [None, (0, 65535)])
def test_zero_may_be_white(value_range: tuple[float, float] | None) -> None:
    form = image_form(SIDE, "stretch", MOST, value_range=value_range)
    black_is_zero, white_is_zero = (form.read(tiff(16, WIDE.tobytes(), photometric)) for photometric in (1, 0))
    np.testing.assert_array_equal(white_is_zero, 255 - black_is_zero)


def test_a_bitmap_that_is_all_transparent_is_one_whose_fourth_byte_says_nothing() -> None:
    np.testing.assert_array_equal(FORM.read(masked_bmp(0)), np.asarray(COLOURS))
    assert (FORM.read(masked_bmp(128)) > np.asarray(COLOURS) // 2).all()


def test_a_broken_exif_turns_nothing() -> None:
    encoded = saved(COLOURS, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(FORM.read(encoded), FORM.read(saved(COLOURS, "JPEG")))
    np.testing.assert_array_equal(decode(encoded).numpy(), FORM.read(encoded))


def test_the_bound_of_pixels_is_looked_at_before_any_is_decoded() -> None:
    for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"):
        large = saved(Image.new("RGB", (101, 100)), form)
        with pytest.raises(Unreadable, match=r"101×100 is more than data.max_pixels \(10000\)"):
            plain(large, MOST)


def test_the_values_of_a_picture_are_told_with_its_bits() -> None:
    assert look(wide_png(0, 1, WIDE >> 4)).values == (int(WIDE.min()) >> 4, int(WIDE.max()) >> 4, 16)
    assert look(wide_png(2, 3, WIDE >> 4)).values == (0, 4095, 16)
    assert look(READ["JPEG"]()).values is None
